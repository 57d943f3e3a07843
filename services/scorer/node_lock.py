"""One builder at a time on a node, whichever process it lives in."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

LOOK_EVERY_S = 0.2


@asynccontextmanager
async def node_lock(path: Path) -> AsyncIterator[None]:
    """Hold the lock file; the kernel lets go of it when its holder dies. Waiting for it can be cancelled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOOK_EVERY_S)
        yield


@contextmanager
def free_lock(path: Path) -> Iterator[bool]:
    """Hold it where nobody else does, without waiting; False: somebody does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
