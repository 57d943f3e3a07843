"""Runs a module of this package in a process of its own, which can be ended and whose memory is its own."""

import asyncio
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NICENESS = 10  # scoring comes first


async def run_apart(module: str, *arguments: str) -> None:
    """Returns when it has ended, however that was. Cancelled, it is killed."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits for another process that works for this batch: one whose parent was killed goes on."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
