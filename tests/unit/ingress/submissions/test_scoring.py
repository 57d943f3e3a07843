"""A batch that is scored, without a broker: a model answers what is handed over, and processes begin and end in between."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from services.ingress.batch_folder import BatchOrder, read_progress
from services.ingress.destinations import Destination
from services.ingress.rate_limiter import RateLimiter
from services.ingress.submissions.bulk_producer import BulkProducer, PoolRetired
from services.ingress.submissions.conclusion import SETTLED
from services.ingress.submissions.cuts import Rows
from services.ingress.submissions.inputs import read_inline
from services.ingress.submissions.items import ItemReader
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.preparation import ROWS
from services.ingress.submissions.row_file import RowFile, write_rows
from services.ingress.submissions.scoring import Means, Scoring
from services.ingress.submissions.settled import SettledLog, in_order
from services.shared.batches import Batch
from services.shared.control_events import ControlEvent, EndpointDeleted, PoolRemoved, PrincipalKind
from services.shared.endpoints import ControlState, Token
from services.shared.envelope import ScoringRequest
from services.shared.errors import EndpointNotFound, RateLimited
from services.shared.results import ScoringResult
from services.shared.topics import BATCH_RESULTS
from tests.unit.ingress.callers import STATE
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.shared.control_log import config, fold, ready, requested

BATCH = Batch("b1", "e1", "ada", PrincipalKind.USER, 1, "", "", "")
FAILS, KILLS = -1, 666
Answer = Callable[[list[Any]], tuple[int, Any]]


def model(values: list[Any]) -> tuple[int, Any]:
    """x → 2x, unless one of them fails, or kills its process."""
    if KILLS in values:
        return 500, {"error_code": "INTERNAL_ERROR", "message": "crashed"}
    if FAILS in values:
        return 400, {"error_code": "BAD_REQUEST", "message": "negative"}
    return 200, {"predictions": [2 * x for x in values]}


@dataclass
class World:
    """What a scoring process meets. `answers` None: nobody scores."""

    folder: Path
    log: FoldingLog = field(default_factory=lambda: FoldingLog(STATE))
    answers: Answer | None = model
    took_ms: int = 5
    free: int = 1_000
    spent: bool = False
    sent: list[ScoringRequest] = field(default_factory=list)
    scoring: Scoring | None = None

    def asked(self, request: ScoringRequest) -> list[Any]:
        return [x for [x] in json.loads(request.body)["dataframe_split"]["data"]]

    def hand_over(self, pool_id: str, request: ScoringRequest) -> asyncio.Future[None]:
        pool = self.log.snapshot().pools.get(pool_id)
        if pool is None or pool.retired_at is not None:
            raise PoolRetired("gone")
        self.sent.append(request)
        loop = asyncio.get_running_loop()
        acknowledged = loop.create_future()
        loop.call_soon(acknowledged.set_result, None)
        if self.answers is not None:
            loop.call_soon(self.answer, request, self.answers)
        return acknowledged

    def answer(self, request: ScoringRequest, answers: Answer) -> None:
        status, body = answers(self.asked(request))
        told = json.dumps(body).encode()
        kind = "application/json"
        result = ScoringResult(request.request_id, request.submission, b"", status, kind, told, request.entity, 1, self.took_ms, "")
        assert self.scoring is not None
        self.scoring.take(result)

    room_of = Pools.room_of

    def room(self, pool_id: str) -> int:
        return self.free

    async def send(self, pool_id: str, request: ScoringRequest) -> None:
        await self.hand_over(pool_id, request)

    def spend_own(self, to: Destination, caller: Token) -> None:
        assert caller.principal == "ada"
        if self.spent:
            raise RateLimited("spent", 1)

    @property
    def means(self) -> Means:
        return Means(self.log, cast(BulkProducer, self), cast(Pools, self), cast(RateLimiter, self), cast(Redis, None), 3_600_000, 2**20)

    async def scored(self, read_to_end: Callable[[], Awaitable[None]], until_s: float = 10.0) -> None:
        """A process takes the batch on. TimeoutError: it ended before the batch did."""
        order = BatchOrder("churn", "INLINE", "", 0, (), "", {})
        self.scoring = Scoring(BATCH, order, self.folder, self.means)
        try:
            async with asyncio.timeout(until_s):
                await self.scoring.run(read_to_end)
        finally:
            self.scoring.keep()
            self.scoring.close()

    def told(self) -> list[tuple[int, int, int]]:
        """First row, count and status of each last word."""
        return [(word.first, word.count, word.status) for word in in_order(self.folder / SETTLED)]

    def by_row(self) -> dict[int, int]:
        """Row → status."""
        return {row: status for first, count, status in self.told() for row in range(first, first + count)}


async def nothing_more() -> None:
    """There are no results that were not taken."""


def world(folder: Path, values: list[Any], **more: Any) -> World:
    write_rows(read_inline({"dataframe_records": [x if isinstance(x, str) else {"x": x} for x in values]}), folder / ROWS)
    return World(folder, **more)


async def test_each_row_is_asked_once_and_settled(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(1_000, 2_000)))
    await here.scored(nothing_more)
    assert sorted(x for request in here.sent for x in here.asked(request)) == list(range(1_000, 2_000))
    assert set(here.by_row().values()) == {200}
    assert list(here.by_row()) == list(range(1_000))
    assert len({request.request_id for request in here.sent}) == len(here.sent) < 100
    assert len(here.asked(here.sent[0])) < len(here.asked(here.sent[-2])), "they grow"
    [request] = {(r.results_to, r.submission, r.requester, r.entity, r.reply_to) for r in here.sent}
    assert request == (BATCH_RESULTS, "b1", "ada", "a", "")


async def test_rows_that_fail_end_alone_and_their_neighbours_are_scored(tmp_path: Path) -> None:
    values: list[Any] = list(range(1_000, 1_300))
    values[3], values[150], values[299] = FAILS, KILLS, "no object"
    here = world(tmp_path, values, took_ms=0)
    await here.scored(nothing_more)
    statuses = here.by_row()
    assert {row: status for row, status in statuses.items() if status != 200} == {3: 400, 150: 500}
    assert len(statuses) == 300
    killing = [request for request in here.sent if KILLS in here.asked(request)]
    assert len(killing) <= 4, "a process dies a few times, not once for each halving"


async def test_a_row_too_large_for_any_request_is_not_sent(tmp_path: Path) -> None:
    here = World(tmp_path, answers=lambda values: (200, {"predictions": values}))
    write_rows(read_inline({"dataframe_records": [{"x": "a" * 2**20}, {"x": "b"}]}), tmp_path / ROWS)
    await here.scored(nothing_more)
    assert (here.by_row(), len(here.sent)) == ({0: 400, 1: 200}, 1)


async def test_rows_of_which_none_can_be_asked_ask_nobody(tmp_path: Path) -> None:
    here = world(tmp_path, [*range(8), *["no object"] * 8])
    await here.scored(nothing_more)
    assert len(here.by_row()) == 16
    assert all(here.asked(request) for request in here.sent)


async def test_who_takes_over_sends_what_is_not_answered_under_the_same_ids(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(500)), answers=None)
    with pytest.raises(TimeoutError):
        await here.scored(nothing_more, until_s=0.3)
    before, here.sent, here.answers = here.sent, [], model
    assert before
    await here.scored(nothing_more)
    assert [r.request_id for r in here.sent[: len(before)]] == [r.request_id for r in before]
    assert [(r.body, r.deadline_ms, r.accepted_at_ms) for r in here.sent[: len(before)]] == [
        (r.body, r.deadline_ms, r.accepted_at_ms) for r in before
    ]
    assert set(here.by_row().values()) == {200}


async def test_who_takes_over_asks_nobody_for_what_was_answered(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(500)))

    def tiring(values: list[Any]) -> tuple[int, Any]:
        here.answers = None if len(here.sent) > 5 else tiring
        return model(values)

    here.answers = tiring
    with pytest.raises(TimeoutError):
        await here.scored(nothing_more, until_s=0.3)
    settled = set(here.by_row())
    assert 0 < len(settled) < 500
    here.sent, here.answers = [], model
    await here.scored(nothing_more)
    assert not settled & {x for request in here.sent for x in here.asked(request)}
    assert len(here.by_row()) == 500


class Deaths:
    """A batch, step by step, on disk as it is when a process is killed: what was not told to keep is gone."""

    def __init__(self, place: Path, rows: int) -> None:
        self._place, self._deaths = place, 0
        (place / "0").mkdir()
        self.here = world(place / "0", list(range(rows)), answers=None)
        self.here.scoring = self._new_scoring()

    @property
    def scoring(self) -> Scoring:
        assert self.here.scoring is not None
        return self.here.scoring

    async def die(self) -> None:
        before, self.here.folder = self.here.folder, self._place / str(self._deaths + 1)
        shutil.copytree(before, self.here.folder)
        self.scoring.close()
        self._deaths += 1
        self.here.sent, self.here.scoring = [], self._new_scoring()
        await self.scoring._send_again()

    async def cut(self, room: int) -> None:
        self.here.free = room
        await self.scoring._cut_some()

    def answer(self, draw: int, status: int) -> None:
        """Any of what is sent, also a second time."""
        if self.here.sent:
            self.here.answer(self.here.sent[draw % len(self.here.sent)], lambda values: (status, {"predictions": values}))

    async def finish(self) -> None:
        self.here.free, self.here.answers = 1_000, lambda values: (200, {"predictions": values})
        for request in list(self.here.sent):
            self.here.answer(request, self.here.answers)
        async with asyncio.timeout(10):
            await self.scoring.run(nothing_more)
        self.scoring.close()

    def _new_scoring(self) -> Scoring:
        return Scoring(BATCH, BatchOrder("churn", "INLINE", "", 0, (), "", {}), self.here.folder, self.here.means)


STEPS = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 9)),
    st.tuples(st.just("answer"), st.integers(0, 99), st.sampled_from([200, 500, 503])),
    st.tuples(st.sampled_from(["die", "keep"])),
)


@given(rows=st.integers(1, 60), steps=st.lists(STEPS, max_size=25))
@example(rows=16, steps=[("cut", 2), ("answer", 0, 500), ("cut", 4), ("die",)])  # four of eight parts are cut
@settings(max_examples=100, deadline=None)
async def test_each_row_is_settled_once_whenever_processes_die(rows: int, steps: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as place:
        batch = Deaths(Path(place), rows)
        for step in steps:
            match step:
                case ("cut", room):
                    await batch.cut(room)
                case ("answer", draw, status):
                    batch.answer(draw, status)
                case ("keep",):
                    batch.scoring.keep()
                case ("die",):
                    await batch.die()
        await batch.finish()
        assert [row for first, count, _ in batch.here.told() for row in range(first, first + count)] == list(range(rows))


async def test_an_answer_that_comes_twice_counts_once(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(100)))
    asked: list[ScoringRequest] = []

    def twice(values: list[Any]) -> tuple[int, Any]:
        asked.append(here.sent[-1])
        return model(values)

    here.answers = twice
    await here.scored(nothing_more)
    for request in here.sent:
        here.answer(request, lambda _: (500, {}))
    assert set(here.by_row().values()) == {200}
    progress = read_progress(tmp_path)
    assert progress is not None
    assert progress.rows == 100


MOVED = (requested(config("2"), 1), ready("a", version=2))  # the entity has another pool from now on


async def test_what_a_pool_that_went_had_not_scored_is_asked_of_the_next(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(100)))

    def leaving(values: list[Any]) -> tuple[int, Any]:
        if 0 not in values or len(here.log.snapshot().pools) > 1:
            return model(values)
        here.log._state = fold(*MOVED, state=here.log.snapshot())
        return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "removed"}

    here.answers = leaving
    await here.scored(nothing_more)
    first = [request for request in here.sent if 0 in here.asked(request)]
    assert len({request.request_id for request in first}) == len({request.served_entity_id for request in first}) == 2
    assert set(here.by_row().values()) == {200}


async def test_what_an_earlier_process_may_have_sent_waits_for_the_end_of_its_pool(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(100)), answers=None)
    with pytest.raises(TimeoutError):
        await here.scored(nothing_more, until_s=0.3)
    before, here.sent, here.answers = here.sent, [], model
    old_pool = next(iter(here.log.snapshot().pools))
    here.log._state = fold(*MOVED, state=here.log.snapshot())
    with pytest.raises(TimeoutError):
        await here.scored(nothing_more, until_s=0.3)
    waiting = {x for request in before for x in here.asked(request)}
    assert not waiting & {x for request in here.sent for x in here.asked(request)}, "they may still be answered"

    here.log._state = fold(PoolRemoved(pool_id=old_pool, at_ms=9), state=here.log.snapshot())

    async def one_more() -> None:
        assert here.scoring is not None
        here.answer(before[0], model)  # it had come there after all

    await here.scored(one_more)
    assert not set(here.asked(before[0])) & {x for request in here.sent for x in here.asked(request)}
    assert set(here.by_row().values()) == {200}
    assert len(here.by_row()) == 100


@pytest.mark.parametrize(
    ("hinder", "free"),
    [
        pytest.param({"free": 0}, {"free": 9}, id="a pool that has enough"),
        pytest.param({"spent": True}, {"spent": False}, id="a rate limit that is spent"),
        pytest.param({"log": FoldingLog(fold(*()))}, None, id="an endpoint that is gone"),
    ],
)
async def test_nothing_is_sent_while_it_may_not_be(hinder: dict[str, Any], free: dict[str, Any] | None, tmp_path: Path) -> None:
    here = world(tmp_path, list(range(20)), **hinder)
    with pytest.raises(TimeoutError if free else EndpointNotFound):
        await here.scored(nothing_more, until_s=0.3)
    assert here.sent == []
    if free:
        for name, value in free.items():
            setattr(here, name, value)
        await here.scored(nothing_more)
        assert len(here.by_row()) == 20


async def test_a_batch_whose_endpoint_is_deleted_ends(tmp_path: Path) -> None:
    here = world(tmp_path, list(range(20)))
    deleted: tuple[ControlEvent, ...] = (EndpointDeleted(endpoint_id="e1", at_ms=9),)
    state: ControlState = fold(*deleted, state=STATE)
    here.log = FoldingLog(state)
    with pytest.raises(EndpointNotFound):
        await here.scored(nothing_more)


async def test_a_full_disk_ends_it_with_what_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world(tmp_path, list(range(200)))

    def full(log: SettledLog) -> None:
        raise OSError(ENOSPC, "No space left on device")

    def tiring(values: list[Any]) -> tuple[int, Any]:
        if len(here.sent) > 5:
            monkeypatch.setattr(SettledLog, "sync", full)
            assert here.scoring is not None
            here.scoring.keep()
        return model(values)

    here.answers = tiring
    with pytest.raises(OSError, match="No space"):
        await here.scored(nothing_more)
    monkeypatch.undo()
    assert set(here.by_row().values()) <= {200}


async def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    write_rows(read_inline({"dataframe_records": [{"x": "a" * 1_000_000}] * 20}), tmp_path / ROWS)
    reader = ItemReader(RowFile(tmp_path / ROWS), {})
    items = reader.read([], 0, 8, 32)
    assert [item.rows.count for item in items] == [1] * 9
    assert [item.rows for item in reader.read([Rows(3, 1, 1)], 9, 8, 2)] == [Rows(3, 1, 1), Rows(9, 1, 0)]
