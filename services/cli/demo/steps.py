"""How the demo says what it does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(highlight=False)


@contextmanager
def step(title: str) -> Iterator[None]:
    began = time.monotonic()
    console.print(f"[bold]▸[/] {title}")
    yield
    console.print(f"  [dim]done in {time.monotonic() - began:.1f} s[/]")
