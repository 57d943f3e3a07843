"""How far a start or a stop is: a live table on a terminal, one plain line per change elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_DONE = {"ready", "stopped"}


class Progress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10, transient=True) if console.is_terminal else None
        self._lines: dict[str, tuple[str, float | None]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def process(self, name: str, state: str, after_s: float | None = None) -> None:
        """Show the state of a process; a repeat of the same state shows nothing."""
        before = self._lines.get(name, ("", None))[0]
        if state == before:
            return
        self._lines[name] = (state, after_s)
        if self._live:
            self._live.update(self._table())
        else:
            self._console.print(f"{name}: {state}" + (f" ({after_s:.1f} s)" if after_s is not None else ""), highlight=False)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, (state, after_s) in self._lines.items():
            done = state in _DONE
            mark = Text("✓", style="green") if done else Spinner("dots")
            table.add_row(mark, name, state, f"{after_s:.1f} s" if done and after_s is not None else "")
        return table
