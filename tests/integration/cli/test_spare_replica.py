"""A spare replica is a process of its own: taken, lost, and gone with whoever kept it."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from services.cli import spare_replica
from services.cli.keeper_link import KeeperLink
from services.cli.spare_replica import SpareReplica

PATIENCE_S = 20.0
ENVIRONMENT: Mapping[str, str] = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


@asynccontextmanager
async def kept(folder: Path, rest_s: float) -> AsyncIterator[SpareReplica]:
    keeper = KeeperLink(os.open(folder / "lock", os.O_RDWR | os.O_CREAT), folder / "processes")
    await keeper.start()
    spare = SpareReplica(ENVIRONMENT, folder / "spare.log", keeper, rest_s)
    keeping = asyncio.create_task(spare.keep())
    try:
        yield spare
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await keeper.stop()


async def spare_pid(other_than: int = 0) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = [p.pid for p in psutil.Process().children() if spare_replica.MODULE in command_of(p)]
            if found and found != [other_than]:
                return found[0]
            await asyncio.sleep(0.05)


def command_of(process: psutil.Process) -> list[str]:
    """Empty for one that has just died."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_a_spare_becomes_the_replica_it_is_told_to_be(tmp_path: Path) -> None:
    async with kept(tmp_path, rest_s=60) as spare:
        pid = await spare_pid()
        readable, writable = os.pipe()
        wrong = {**ENVIRONMENT, "PENSTOCK_SCORER_POOL_ID": "p", "PENSTOCK_SCORER_LOAD_LIMIT_S": "-1"}
        with (tmp_path / "replica.log").open("ab") as output:
            process = spare.take(wrong, output.fileno(), {"PENSTOCK_READY_FD": writable})
            assert process is not None
            assert spare.take(wrong, output.fileno(), {}) is None  # there was one
        os.close(writable)
        assert (process.pid, await process.wait()) == (pid, 2)  # with the settings of its new environment it stops at the start
        assert b"load_limit_s" in (tmp_path / "replica.log").read_bytes().lower()
        assert os.read(readable, 1) == b""  # nobody holds the pipe any more
        os.close(readable)


async def test_a_spare_that_dies_is_followed_by_another_which_goes_with_its_keeper(tmp_path: Path) -> None:
    async with kept(tmp_path, rest_s=0):
        first = await spare_pid()
        psutil.Process(first).kill()
        second = psutil.Process(await spare_pid(other_than=first))
    assert not second.is_running()
