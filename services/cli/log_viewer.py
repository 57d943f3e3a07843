"""`penstock logs`: the last lines of the log files, and what comes after them."""

import time
from collections.abc import Iterator
from pathlib import Path

from services.cli.failures import StackFailure
from services.cli.log_files import tail
from services.cli.process_names import names_meant, names_to_offer, short_name

LINES = 200
LOOK_EVERY_S = 0.2


def matching_logs(folder: Path, asked: str | None) -> list[Path]:
    """The logs a person means by a process, a service or a served entity; None: all. Raises StackFailure when there are none."""
    logs = sorted(folder.glob("*.log"))
    if not logs:
        raise StackFailure(f"there are no logs in {folder} yet")
    found = [file for file in logs if asked is None or asked in names_meant(file.stem)]
    if not found:
        raise StackFailure(f"there is no log of {asked}; there are: {', '.join(names_to_offer(file.stem for file in logs))}")
    return found


def recent_lines(files: list[Path]) -> Iterator[str]:
    """Each file's last lines; with more than one file each line says whose it is."""
    for file in files:
        for line in tail(file, LINES):
            yield _line(file, line, files)


def following_lines(folder: Path, asked: str | None) -> Iterator[str]:
    """Lines written from now on, for ever; files that appear meanwhile are read from their beginning."""
    positions = {file: file.stat().st_size for file in matching_logs(folder, asked)}
    pending: dict[Path, bytes] = {}
    while True:
        files = matching_logs(folder, asked)
        for file in files:
            size, position = file.stat().st_size, positions.get(file, 0)
            if size == position:
                continue
            with file.open("rb") as opened:
                opened.seek(position if size > position else 0)  # smaller: it was rotated
                read = opened.read()
                positions[file] = opened.tell()
            *complete, pending[file] = (pending.get(file, b"") + read).split(b"\n")
            for line in complete:
                yield _line(file, line.decode(errors="replace"), files)
        time.sleep(LOOK_EVERY_S)


def _line(file: Path, line: str, shown: list[Path]) -> str:
    return line if len(shown) == 1 else f"{short_name(file.stem)}: {line}"
