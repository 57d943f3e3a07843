"""Which lane takes what, with a worker that answers when it is told to."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from redis.asyncio import Redis

from services.scorer.answers import Answer
from services.scorer.attempts import Attempts
from services.scorer.batching import LARGE_BYTES
from services.scorer.build_log import DeploymentFailed
from services.scorer.evaluation_meter import EvaluationMeter
from services.scorer.jobs import Job
from services.scorer.lanes import Lanes, WorkerLost, pause_s
from services.scorer.model_worker.frames import Traits
from services.scorer.worker_process import WorkerDied, WorkerProcess
from services.scorer.worker_usage import WorkerUsage
from services.shared.clock import now_ms
from services.shared.envelope import ScoringRequest
from services.shared.tallies import Tallies

SMALL, ODD, LARGE = b"{}", b"odd", b"b" * (LARGE_BYTES + 1)
FOREVER_MS = 2**50


class Worker:
    """Scores by its shortcut, and together, what is not ODD. Nothing is answered before `go`."""

    dead = False
    died_idle = False

    def __init__(self, waits: bool = False) -> None:
        self.traits = Traits(True, waits, "the test says so")
        self.batches: list[list[bytes]] = []
        self.go = asyncio.Event()
        self.died = False
        self.end = asyncio.Event()
        self.usage = SimpleNamespace(over_memory=False)

    async def ended(self) -> None:
        await self.end.wait()

    async def score(self, members: Sequence[tuple[str, bytes]], on_answer: Callable[[int, Answer], None]) -> None:
        bodies = [body for _, body in members]
        self.batches.append(bodies)
        await self.go.wait()
        if self.died:
            raise WorkerDied(blamed=True)
        scored = [i for i, body in enumerate(bodies) if body is not ODD or len(bodies) == 1]
        for index in scored:
            rows = 0 if bodies[index] is ODD else len(scored)
            on_answer(index, Answer(200, "application/json", b"{}", duration_s=0.001, together=len(scored), rows=rows))


class Counted:
    async def count(self, request_id: str, known: int) -> int:
        return known + 1


async def lanes_with(worker: Worker, meter: EvaluationMeter | None = None) -> Lanes:
    async def start() -> WorkerProcess:
        return cast(WorkerProcess, worker)

    lanes = Lanes(start, cast(Attempts, Counted()), meter or EvaluationMeter(Tallies(Redis())), limit_s=60)
    await lanes.start()
    return lanes


def job(body: bytes, answers: list[int], deadline_ms: int = FOREVER_MS) -> Job:
    request = ScoringRequest("id", "e", "n", "m-1", "s", "ada", 0, deadline_ms, "stream", "", "application/json", "", 1, body)
    return Job(request, lambda _, answer: answers.append(answer.status))


async def lanes_of(monkeypatch: pytest.MonkeyPatch, *outcomes: Worker | WorkerDied) -> Lanes:
    """Each start of a worker has the next outcome, without a pause."""
    monkeypatch.setattr("services.scorer.lanes.FIRST_BACKOFF_S", 0)
    left = iter(outcomes)

    async def start() -> WorkerProcess:
        outcome = next(left)
        if isinstance(outcome, WorkerDied):
            raise outcome
        return cast(WorkerProcess, outcome)

    lanes = Lanes(start, cast(Attempts, Counted()), EvaluationMeter(Tallies(Redis())), limit_s=60)
    await lanes.start()
    return lanes


def gone(idle: bool) -> Worker:
    worker = Worker()
    worker.died_idle = idle
    worker.end.set()
    return worker


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def known_to_be_quick(worker: Worker, lanes: Lanes) -> None:
    worker.go.set()
    lanes.submit([job(SMALL, [])])
    await settle()
    worker.go.clear()
    worker.batches.clear()


async def test_what_waits_goes_together_in_one_batch_of_a_model_that_computes() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    for _ in range(4):
        lanes.submit([job(SMALL, answers) for _ in range(3)])
        await settle()
    assert list(map(len, worker.batches)) == [3]
    worker.go.set()
    while len(answers) < 12:  # where the batch took long, the lane has patience
        await asyncio.sleep(0.001)
    assert list(map(len, worker.batches)) == [3, 9]
    assert (answers, lanes.in_flight) == ([200] * 12, 0)


async def test_batches_of_a_model_that_waits_are_under_way_in_all_lanes() -> None:
    worker, answers = Worker(waits=True), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    for _ in range(6):
        lanes.submit([job(SMALL, answers) for _ in range(3)])
        await settle()
    assert list(map(len, worker.batches)) == [3, 3, 3, 3]
    worker.go.set()
    await settle()
    assert (answers, lanes.in_flight) == ([200] * 18, 0)


async def test_who_has_least_time_left_goes_first() -> None:
    """As after a wake: what waited in several partitions comes at once, each in its own order."""
    worker = Worker()
    lanes = await lanes_with(worker)
    lanes.submit([job(b"late", [], FOREVER_MS), job(b"soon", [], FOREVER_MS - 1)])
    await settle()
    assert next(body for batch in worker.batches for body in batch) == b"soon"
    worker.go.set()
    await settle()


async def test_a_lane_that_comes_free_waits_for_those_it_just_served_but_not_for_ever() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    lanes.submit([job(SMALL, answers) for _ in range(4)])
    await asyncio.sleep(0.1)  # the evaluation: half as long, the lane waits
    worker.go.set()
    await settle()
    lanes.submit([job(SMALL, answers) for _ in range(3)])
    await settle()
    assert list(map(len, worker.batches)) == [4]
    lanes.submit([job(SMALL, answers)])
    await settle()
    assert list(map(len, worker.batches)) == [4, 4]


async def test_a_lane_whose_callers_do_not_come_back_goes_on_with_who_is_there() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    lanes.submit([job(SMALL, answers) for _ in range(4)])
    await asyncio.sleep(0.02)
    worker.go.set()
    await settle()
    lanes.submit([job(SMALL, answers)])
    while len(answers) < 5:
        await asyncio.sleep(0.001)
    assert list(map(len, worker.batches)) == [4, 1]


async def test_what_cannot_be_scored_with_others_has_a_lane_each_and_leaves_one_to_them() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    lanes.submit([job(body, answers) for body in (SMALL, ODD, ODD, ODD, ODD, ODD)])
    lanes.submit([job(SMALL, answers)])
    await settle()
    worker.batches.clear()
    worker.go.set()
    await asyncio.sleep(0)
    worker.go.clear()
    lanes.submit([job(SMALL, answers)])
    await settle()
    assert sorted(worker.batches) == [[ODD]] * 3 + [[SMALL, SMALL]]
    worker.go.set()
    await settle()
    assert (answers, lanes.in_flight) == ([200] * 8, 0)


async def test_what_comes_alone_and_could_have_no_company_is_followed_by_others_in_all_lanes() -> None:
    """One after the other they would take a replica each: four callers, seldom two of them waiting, got the pace of one."""
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    worker.go.set()
    lanes.submit([job(ODD, answers)])
    await settle()
    worker.go.clear()
    for _ in range(4):
        lanes.submit([job(ODD, answers)])
        await settle()
    assert worker.batches == [[ODD]] * 5
    worker.go.set()
    await settle()
    assert answers == [200] * 5


async def test_a_request_that_could_have_no_company_counts_as_one_of_four_at_once() -> None:
    meter, worker = EvaluationMeter(None), Worker()
    lanes = await lanes_with(worker, meter)
    worker.go.set()
    lanes.submit([job(ODD, [])])
    await settle()
    assert meter.evaluation_s == pytest.approx(0.001)


async def test_bulk_leaves_a_lane_to_small_requests() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    lanes.submit([job(LARGE, answers) for _ in range(3)])
    lanes.submit([job(SMALL, answers)])
    await settle()
    assert worker.batches == [[LARGE], [SMALL]]


async def test_members_of_a_worker_that_died_run_alone_and_three_deaths_are_an_answer() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    worker.died = True
    lanes.submit([job(SMALL, answers), job(SMALL, answers)])
    worker.go.set()
    await settle()
    await settle()
    assert list(map(len, worker.batches)) == [2, 1, 1, 1, 1]
    assert (answers, lanes.in_flight) == ([500, 500], 0)


async def test_suspects_whose_deadline_has_passed_hold_up_nobody() -> None:
    worker, answers = Worker(), list[int]()
    lanes = await lanes_with(worker)
    await known_to_be_quick(worker, lanes)
    late = job(SMALL, answers, deadline_ms=now_ms() - 1)
    late.crashes = 1
    lanes.submit([late, job(SMALL, answers)])
    worker.go.set()
    await settle()
    assert (answers, lanes.in_flight) == ([504, 200], 0)


async def test_a_model_that_died_loading_fails_its_deployment_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeploymentFailed, match=r"while loading the model\. Its process said last: libgomp is not there"):
        await lanes_of(monkeypatch, *(WorkerDied(blamed=True, said="libgomp is not there") for _ in range(3)))


async def test_a_worker_that_does_not_come_back_is_tried_so_often_and_then_lost_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its replica looked well for ever, and kept partitions and requests."""
    lanes = await lanes_of(monkeypatch, gone(idle=False), *(WorkerDied(blamed=True, said="no space left") for _ in range(3)))
    with pytest.raises(WorkerLost, match=r"3 .* no space left"):
        await lanes.keep_alive(most_failures=3)


async def test_a_worker_that_dies_again_and_again_without_a_request_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = await lanes_of(monkeypatch, gone(idle=True), WorkerDied(blamed=True), gone(idle=True))
    with pytest.raises(WorkerLost):
        await lanes.keep_alive(most_failures=3)


async def test_deaths_under_requests_are_counted_for_the_requests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends poison again and again must not take the replica from its neighbours."""
    last = Worker()
    lanes = await lanes_of(monkeypatch, *(gone(idle=False) for _ in range(9)), last)
    keeping = asyncio.create_task(lanes.keep_alive(most_failures=2))
    async with asyncio.timeout(5):
        while lanes.usage is not cast(WorkerUsage, last.usage):
            await asyncio.sleep(0.001)
    assert not keeping.done()
    keeping.cancel()


@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (1, 0), (2, 0.5), (3, 1), (5, 4), (60, 10)])
def test_the_pause_before_a_restart_doubles(failures: int, pause: float) -> None:
    assert pause_s(failures) == pause
