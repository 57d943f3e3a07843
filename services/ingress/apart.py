"""Runs a module of the ingress in a process of its own, which can be ended and whose memory is its own."""

import asyncio
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NICENESS = 10  # scoring comes first


async def run_apart(module: str, *arguments: str) -> int:
    """The exit status, once it has ended. Cancelled, it is killed."""
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        return await process.wait()
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
