"""How the demo says what it does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console

console = Console(highlight=False)


@contextmanager
def step(title: str, *, shows_itself: bool = False) -> Iterator[None]:
    """A spinner on a terminal, unless the step draws there itself; a line before and after elsewhere."""
    began = time.monotonic()
    if not console.is_terminal:
        console.print(f"▸ {title}")
    with console.status(title) if console.is_terminal and not shows_itself else nullcontext():
        yield
    console.print(f"[green]✓[/] {title} [dim]· {time.monotonic() - began:.1f} s[/]")
