"""A process that dies: how often in a row, and what its log ended with, until it has recovered."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli import child as children
from services.cli.child import Child, ChildSpec
from services.cli.keeper_link import KeeperLink
from services.cli.log_files import last_lines
from services.shared.clock import now_ms
from services.shared.node import Node, NodeServer

PATIENCE_S = 20.0
READY_THEN = "import os, time; os.write(int(os.environ['PENSTOCK_READY_FD']), b'READY=1\\n'); "
DIES_READY = READY_THEN + "time.sleep(0.05); raise ValueError('boom' * 30_000)"
DIES_TWICE = "import os; n = os.path.getsize('{0}'); open('{0}', 'a').write('.'); assert n > 1, 'boom'; " + READY_THEN + "time.sleep(60)"


@asynccontextmanager
async def running(folder: Path, code: str) -> AsyncIterator[Child]:
    keeper = KeeperLink(os.open(folder / "lock", os.O_RDWR | os.O_CREAT), folder / "processes")
    await keeper.start()
    command = [sys.executable, "-I", "-S", "-c", code]
    spec = ChildSpec("scorer-p-0", command, {}, folder / "log", grace_s=5, may_leave=True, must_start=False)
    child = Child(spec, keeper, lambda _: None, lambda _: None)
    child.start()
    try:
        yield child
    finally:
        await child.stop()
        await keeper.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_deaths_add_up_although_it_was_ready_before_each_and_its_last_words_stay_while_it_starts_again(tmp_path: Path) -> None:
    async with running(tmp_path, DIES_READY) as child:
        await until(lambda: child.deaths == 2)
        words = child.last_words
        assert "ValueError: boom" in words
        assert len(words) < 2_000, "however much it said"
        await until(lambda: child.pid is not None)
        assert child.last_words == words


async def test_a_process_that_stays_ready_has_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    count.touch()
    async with running(tmp_path, DIES_TWICE.format(count)) as child:
        await until(lambda: child.state == "ready")
        assert (child.deaths, child.restarts) == (2, 2)
        assert child.last_words
        monkeypatch.setattr(children, "STEADY_AFTER_S", 0.0)
        assert (child.deaths, child.restarts) == (0, 2)
        assert not child.last_words


async def test_what_a_process_says_of_itself_is_from_after_its_start(tmp_path: Path) -> None:
    before_ms = now_ms()
    async with running(tmp_path, READY_THEN + "time.sleep(60)") as child:
        await until(lambda: child.state == "ready")
        assert child.started_ms is not None
        assert before_ms <= child.started_ms <= now_ms()
    assert child.started_ms is None


async def test_hundreds_of_replicas_that_die_with_long_words_are_all_told_of(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(["x" * 64_000] * 3))
    facts = {"pool_id": "p", "refusing": False, "state": "backing-off", "pid": None, "started_ms": None, "deaths": 3}
    listed = [{**facts, "replica_id": f"p-{n}", "last_words": last_lines(log)} for n in range(300)]
    async with NodeServer(tmp_path, {"replicas": lambda _: {"replicas": listed}}):
        assert len(await Node(tmp_path).replicas()) == 300
