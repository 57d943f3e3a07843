"""The files the processes of the stack write to: rotation, the last lines, and what is too old to keep."""

import os
import shutil
from collections.abc import Container
from pathlib import Path

ROTATE_BYTES = 20 * 1024 * 1024
SAID_CHARACTERS = 300  # of a line, in a message: what an exception says may be as long as what it was given
BUILD_LOGS_KEPT_S = 30 * 24 * 3600  # as Databricks keeps them (databricks_surface §1.2)
REPLICA_LOGS_KEPT = 40  # of replicas that are gone: every replica has its own, and replicas come and go


def rotate(log_file: Path) -> None:
    """Empty a file that has grown large, and keep one copy of what it held. Its writer goes on: it appends, wherever the end is."""
    if log_file.exists() and log_file.stat().st_size > ROTATE_BYTES:
        shutil.copyfile(log_file, log_file.with_name(f"{log_file.name}.old"))
        os.truncate(log_file, 0)


def rotate_all(folder: Path) -> None:
    for log_file in folder.glob("*.log"):
        rotate(log_file)


def prune_replica_logs(folder: Path, in_use: Container[Path]) -> None:
    """A replica that has nothing to say for days still writes to its log, which is one of those `in_use`."""
    gone = [file for file in folder.glob("scorer-*.log*") if file.with_name(file.name.removesuffix(".old")) not in in_use]
    for file in sorted(gone, key=lambda file: file.stat().st_mtime, reverse=True)[REPLICA_LOGS_KEPT:]:
        file.unlink(missing_ok=True)


def prune_build_logs(folder: Path, now: float) -> None:
    """`now` is seconds since the epoch."""
    for file in folder.glob("build-*.log"):
        if now - file.stat().st_mtime > BUILD_LOGS_KEPT_S:
            file.unlink(missing_ok=True)


def tail(log_file: Path, lines: int) -> list[str]:
    """The last lines, of the last 256 KiB at most."""
    try:
        with log_file.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 256 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def last_lines(log_file: Path) -> str:
    """The end of a log in one line, for the message of a failed start."""
    said = " | ".join(line.strip()[:SAID_CHARACTERS] for line in tail(log_file, 3) if line.strip())
    return f"its log {log_file} ends with: {said}" if said else f"it wrote nothing to {log_file}"
