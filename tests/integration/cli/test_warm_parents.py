"""Warm parents are processes of their own, kept for the environments in use: started, lost, begun anew, not tried for ever."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from services.cli.child import Child
from services.cli.keeper_link import KeeperLink
from services.cli.places import StatePlaces
from services.cli.plan import ChildState
from services.cli.warm_parents import WarmParents
from services.scorer.environment import environment_folder
from services.scorer.imported_modules import add_imports

PATIENCE_S = 30.0
DIGEST, THREADED = "a" * 32, "b" * 32


class Kept:
    """What a supervisor has of warm parents."""

    def __init__(self, places: StatePlaces, keeper: KeeperLink) -> None:
        self.children: dict[str, Child] = {}
        self.parents = WarmParents(places, 4, 2**40, keeper, self.children, lambda _: None)

    def pid(self, digest: str = DIGEST) -> int:
        """0: none is ready."""
        child = self.children.get(f"warm-{digest[:8]}")
        return child.pid or 0 if child is not None and child.state is ChildState.READY else 0

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def kept(places: StatePlaces) -> AsyncIterator[Kept]:
    keeper = KeeperLink(os.open(places.lock, os.O_RDWR | os.O_CREAT), places.journal)
    await keeper.start()
    kept = Kept(places, keeper)
    keeping = asyncio.create_task(kept.parents.keep())
    try:
        yield kept
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in list(kept.children.values())))
        await keeper.stop()


def lay_environment(state: Path, digest: str, module: str) -> Path:
    """This project's own, which can import a module of this text as well, and instead of MLflow nothing that takes time."""
    folder = environment_folder(state, digest)
    (folder / "bin").mkdir(parents=True)
    (folder / "modules" / "mlflow").mkdir(parents=True)
    (folder / "modules" / "mlflow" / "__init__.py").touch()
    (folder / "modules" / "mlflow" / "pyfunc.py").write_text(module)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "modules"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / ".complete").write_text("0")
    return folder


async def test_parents_are_kept_for_what_is_used_and_are_there_again_when_the_stack_is(tmp_path: Path) -> None:
    places = StatePlaces(tmp_path)
    folder = lay_environment(tmp_path, DIGEST, "")
    lay_environment(
        tmp_path, THREADED, "import threading, time; threading.Thread(target=time.sleep, args=[60], name='of a library').start()"
    )
    async with kept(places) as first:
        assert first.parents.use({"environment": DIGEST}) == {"unforkable": ""}
        first.parents.use({"environment": THREADED})
        await first.until(lambda: first.pid() > 0 and f"warm-{THREADED[:8]}" not in first.children)
        assert "threads" in places.log_of(f"warm-{THREADED[:8]}").read_text()
        assert "warm-bbbbbbbb.log" in first.parents.use({"environment": THREADED})["unforkable"]
        pid = first.pid()
        psutil.Process(pid).kill()
        await first.until(lambda: first.pid() not in (0, pid))
        pid = first.pid()
        add_imports(folder, ["wave"])
        first.parents.use({"environment": DIGEST})
        await first.until(lambda: first.pid() not in (0, pid))
    assert not psutil.pid_exists(pid)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".sock")]
    async with kept(places) as second:
        await second.until(lambda: second.pid() > 0)
        assert list(second.children) == [f"warm-{DIGEST[:8]}"], "what cannot be forked is not tried again"
