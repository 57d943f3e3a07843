"""`penstock logs`: the last lines of the log files, and what comes after them."""

import time
from collections.abc import Iterator
from pathlib import Path

from services.cli.failures import StackFailure
from services.cli.log_files import tail

LINES = 200
LOOK_EVERY_S = 0.2


def matching_logs(folder: Path, service: str | None) -> list[Path]:
    """The logs of a process, or of all processes of a service. Raises StackFailure when there are none."""
    found = sorted(file for file in folder.glob("*.log") if service in (None, file.stem, file.stem.partition("-")[0]))
    if not found:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none yet"
        raise StackFailure(f"there is no log of {service}; there are: {known}" if service else f"there are no logs in {folder} yet")
    return found


def recent_lines(files: list[Path]) -> Iterator[str]:
    """Each file's last lines; with more than one file each line says whose it is."""
    for file in files:
        for line in tail(file, LINES):
            yield line if len(files) == 1 else f"{file.stem}: {line}"


def following_lines(folder: Path, service: str | None) -> Iterator[str]:
    """Lines written from now on, for ever; files that appear meanwhile are read from their beginning."""
    positions = {file: file.stat().st_size for file in matching_logs(folder, service)}
    pending: dict[Path, bytes] = {}
    while True:
        for file in matching_logs(folder, service):
            size, position = file.stat().st_size, positions.get(file, 0)
            if size == position:
                continue
            with file.open("rb") as opened:
                opened.seek(position if size > position else 0)  # smaller: it was rotated
                read = opened.read()
                positions[file] = opened.tell()
            *complete, pending[file] = (pending.get(file, b"") + read).split(b"\n")
            for line in complete:
                yield f"{file.stem}: {line.decode(errors='replace')}"
        time.sleep(LOOK_EVERY_S)
