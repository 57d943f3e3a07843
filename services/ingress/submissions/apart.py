"""Runs a module of this package in a process of its own, which can be ended and whose memory is its own."""

import asyncio
import sys
from contextlib import suppress

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
