"""How the commands lay out what the API says: plain tables, whole when they go to a file. Pure but for the console."""

import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

FILE_COLUMNS = 1_000  # of a line that no screen has to hold


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)


def error_console() -> Console:
    """For progress, so that standard output is the answer alone."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else FILE_COLUMNS, highlight=False)


def print_json(answer: Any) -> None:
    print(json.dumps(answer, indent=2))


def table(*titles: str, right: tuple[str, ...] = (), wrapped: tuple[str, ...] = ()) -> Table:
    """`right` are aligned to that side; `wrapped` give way where the screen is narrow, so that no number is ever cut."""
    laid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in titles:
        laid.add_column(Text(title), justify="right" if title in right else "left", no_wrap=title not in wrapped, overflow="fold")
    return laid


def cell(value: Any, style: str = "") -> Text:
    """Text as it is: no markup, and nothing that would steer a terminal."""
    shown = "" if value is None else str(value)
    return Text("".join(letter if letter.isprintable() else "�" for letter in shown), style)


def moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000))


def instant(at_ms: int) -> str:
    """With its seconds, for what follows closely on another."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
