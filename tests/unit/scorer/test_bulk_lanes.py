"""Bulk work beside online requests, with lanes that do what they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from services.scorer.build_log import DeploymentFailed
from services.scorer.bulk_lanes import BulkLanes
from services.scorer.jobs import Job
from services.scorer.lanes import Lanes
from tests.unit.scorer.test_lanes import SMALL, job, settle


class FakeLanes:
    """Takes what is submitted and keeps it until it is told that all is done."""

    def __init__(self, waiting: int = 0, in_flight: int = 0, is_row_wise: bool = True, failures: int = 0) -> None:
        self.waiting, self.in_flight, self.is_row_wise, self.failures = waiting, in_flight, is_row_wise, failures
        self.capacity = 7
        self.trouble = ""
        self.taken: list[Job] = []
        self.freed: asyncio.Event | None = None
        self.stopped = False

    async def start(self) -> None:
        if self.failures:
            raise DeploymentFailed("no memory is left")

    async def keep_alive(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True

    def submit(self, jobs: Sequence[Job]) -> None:
        self.taken.extend(jobs)
        self.in_flight += len(jobs)


@asynccontextmanager
async def running(new_lanes: Callable[[], FakeLanes], online: FakeLanes, idle_s: float = 60.0) -> AsyncIterator[BulkLanes]:
    def made(freed: asyncio.Event) -> Lanes:
        lanes = new_lanes()
        lanes.freed = freed
        return cast(Lanes, lanes)

    bulk = BulkLanes(made, cast(Lanes, online), asyncio.Event(), idle_s)
    task = asyncio.create_task(bulk.run())
    await settle()
    yield bulk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("online", "own", "capacity"),
    [
        pytest.param(FakeLanes(waiting=1, in_flight=5), FakeLanes(), 0, id="nothing while an online request waits for a lane"),
        pytest.param(FakeLanes(in_flight=1), FakeLanes(), 7, id="what its own worker scores together, while none waits"),
        pytest.param(FakeLanes(in_flight=3), FakeLanes(is_row_wise=False), 1, id="of a model that scores one by one, the lanes left"),
    ],
)
async def test_room(online: FakeLanes, own: FakeLanes, capacity: int) -> None:
    async with running(lambda: own, online) as bulk:
        bulk.submit([job(SMALL, [])])
        await settle()
        assert bulk.capacity == capacity


async def test_the_host_hears_of_room_in_the_bulk_worker_at_once() -> None:
    """It once heard of the online worker's alone, and waited for its next poll: 256 small records a poll, 5 polls a second."""
    own = FakeLanes()
    async with running(lambda: own, FakeLanes()) as bulk:
        bulk.submit([job(SMALL, [])])
        await settle()
        assert own.freed is bulk.freed


async def test_a_worker_comes_with_work_and_goes_without() -> None:
    made: list[FakeLanes] = []

    def new() -> FakeLanes:
        made.append(FakeLanes())
        return made[-1]

    async with running(new, FakeLanes(), idle_s=0.01) as bulk:
        bulk.submit([])
        await settle()
        assert made == []
        for number in (1, 2):
            bulk.submit([job(SMALL, []), job(SMALL, [])])
            await settle()
            assert (len(made), len(made[-1].taken), bulk.in_flight, made[-1].stopped) == (number, 2, 2, False)
            await asyncio.sleep(0.05)
            assert not made[-1].stopped, "it has work"
            made[-1].in_flight = 0
            async with asyncio.timeout(5):
                while not made[-1].stopped:
                    await asyncio.sleep(0.01)


async def test_work_waits_for_a_worker_that_does_not_start_or_come_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scorer.bulk_lanes.FIRST_PAUSE_S", 0.05)
    tries = iter([FakeLanes(failures=1), own := FakeLanes()])
    async with running(lambda: next(tries), FakeLanes()) as bulk:
        bulk.submit([job(SMALL, [])])
        await settle()
        assert (bulk.in_flight, bulk.trouble) == (1, "Bulk work waits. The model's process does not start: no memory is left")
        async with asyncio.timeout(5):
            while not own.taken:
                await asyncio.sleep(0.01)
        assert bulk.trouble == ""
        own.trouble = "The model's process does not come back: it died."
        assert bulk.trouble == "Bulk work waits. The model's process does not come back: it died."
