"""Batches run over real Kafka, with a model that answers at once: their ends, their folders, and who may write there."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any, cast
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from services.ingress.batch_folder import UPLOAD, BatchOrder, SourceKind, leave_order
from services.ingress.destinations import Destination
from services.ingress.rate_limiter import RateLimiter
from services.ingress.settings import IngressServiceSettings, IngressSettings
from services.ingress.submissions.batch_run import to_its_end
from services.ingress.submissions.batch_runner import BatchRunner
from services.ingress.submissions.bulk_producer import BulkProducer
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.scoring import Means
from services.shared.batches import BatchState
from services.shared.clock import now_ms
from services.shared.control_events import BatchCanceled, BatchSubmitted, EndpointDeleted
from services.shared.endpoints import Token
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.redis_clients import new_redis
from services.shared.results import result_record
from services.shared.safe_producer import Record, SafeProducer
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import BATCH_RESULTS
from tests.unit.ingress.callers import STATE
from tests.unit.ingress.folding_log import FoldingLog

LEFT = {"order.json", "progress.json", "results.ndjson", "results.parquet"}


class Model:
    """Takes what is handed over, and answers on Kafka: x → 2x. One that is mute answers nothing."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = SafeProducer(kafka)
        self._turn = asyncio.Lock()
        self.is_mute = False
        self.asked: list[str] = []

    async def send(self, pool_id: str, request: ScoringRequest) -> None:
        self.asked.append(request.request_id)
        if self.is_mute:
            return
        predictions = [2 * x for [x] in json.loads(request.body)["dataframe_split"]["data"]]
        reply = ScoringReply(request.request_id, 200, "application/json", json.dumps({"predictions": predictions}).encode())
        record = result_record(request, reply, 1, now_ms())
        async with self._turn:
            records = [Record(BATCH_RESULTS, 0, b"no result"), record, record]
            await self._producer.finish(records, await self._producer.begin(records))

    def hand_over(self, pool_id: str, request: ScoringRequest) -> asyncio.Future[None]:
        return asyncio.ensure_future(self.send(pool_id, request))

    room_of = Pools.room_of

    def room(self, pool_id: str) -> int:
        return 100

    def spend_own(self, to: Destination, caller: Token) -> None:
        """No limits."""

    async def stop(self) -> None:
        await self._producer.stop()


class Node:
    """One control log and one state folder, whichever processes run on them."""

    def __init__(self, kafka: KafkaSettings, redis: Redis, state: Path, kept_h: float = 1.0) -> None:
        self.settings = IngressServiceSettings(state=state, kafka=kafka, ingress=IngressSettings(batches_kept_h=kept_h))
        self.log = FoldingLog(STATE)
        self.model = Model(kafka)
        self._redis = redis

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        model: Any = self.model
        means = Means(self.log, cast(BulkProducer, model), cast(Pools, model), cast(RateLimiter, model), self._redis, 3_600_000, 2**20)
        task = asyncio.create_task(BatchRunner(self.settings, self.log, means).run())
        try:
            yield
        finally:
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(done[0], asyncio.CancelledError), done

    async def submit(self, content: str, kind: SourceKind = "NDJSON", asked: str = "") -> str:
        event = BatchSubmitted(batch_id=str(uuid4()), endpoint_id="e1", owner="ada", at_ms=now_ms())
        folder = self.folder(event.batch_id)
        folder.mkdir(parents=True)
        (folder / UPLOAD).write_text(content)
        leave_order(folder, BatchOrder("churn", kind, asked, len(content), (), "", {}))
        await self.log.publish(event)
        return event.batch_id

    def folder(self, batch_id: str) -> Path:
        return self.settings.batches_folder / batch_id

    def results(self, batch_id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder(batch_id) / "results.ndjson").read_text().splitlines()]

    async def state(self, batch_id: str, *wanted: BatchState) -> str:
        """Once it is one of those; its message."""
        await eventually(lambda: self.log.snapshot().batches[batch_id].state in wanted)
        return self.log.snapshot().batches[batch_id].message


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def node(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path) -> AsyncIterator[Node]:
    redis = new_redis(redis_settings)
    made = Node(kafka, redis, tmp_path)
    yield made
    await made.model.stop()
    await redis.aclose()


def lines(count: int) -> str:
    return "".join(f'{{"x": {n}}}\n' for n in range(count))


async def test_a_batch_goes_on_where_a_process_ended(node: Node) -> None:
    node.model.is_mute = True
    async with node.running():
        batch_id = await node.submit(lines(200))
        await eventually(lambda: bool(node.model.asked))
    before, node.model.asked, node.model.is_mute = list(node.model.asked), [], False
    async with node.running():
        assert await node.state(batch_id, BatchState.SUCCEEDED) == ""
        assert [(row["x"], row["prediction"]) for row in node.results(batch_id)] == [(n, 2 * n) for n in range(200)]
        await eventually(lambda: {file.name for file in node.folder(batch_id).iterdir()} == LEFT)
    assert node.model.asked[: len(before)] == before
    assert len(set(node.model.asked)) == len(node.model.asked)
    batch = node.log.snapshot().batches[batch_id]
    assert (batch.rows, batch.failed) == (200, 0)


async def test_what_cannot_be_run_fails_and_says_why(node: Node) -> None:
    async with node.running():
        empty, unknown = await node.submit(""), await node.submit("", "TABLE", "main.ml.nothing")
        elsewhere = BatchSubmitted(batch_id=str(uuid4()), endpoint_id="e1", owner="ada", at_ms=1)
        await node.log.publish(elsewhere)
        assert "no rows" in await node.state(empty, BatchState.FAILED)
        assert "main.ml.nothing" in await node.state(unknown, BatchState.FAILED)
        assert "not on the node" in await node.state(elsewhere.batch_id, BatchState.FAILED)


async def test_files_that_cannot_be_read_end_one_batch_and_no_other(node: Node) -> None:
    node.model.is_mute = True
    async with node.running():
        torn, whole = await node.submit(lines(200)), await node.submit(lines(4))
        await eventually(lambda: all((node.folder(batch_id) / "cuts").exists() for batch_id in (torn, whole)))
    os.truncate(node.folder(torn) / "rows.parquet", 100)
    unreadable = await node.submit("")
    (node.folder(unreadable) / "order.json").write_text("{")
    node.model.is_mute = False
    async with node.running():
        for batch_id in (torn, unreadable):
            assert "internal fault" in await node.state(batch_id, BatchState.FAILED)
        await node.state(whole, BatchState.SUCCEEDED)


async def test_a_batch_that_is_canceled_or_has_lost_its_endpoint_ends_with_what_was_scored(node: Node) -> None:
    async with node.running():
        done = await node.submit(lines(4))
        await node.state(done, BatchState.SUCCEEDED)
        node.model.is_mute = True
        canceled, left = await node.submit(lines(5)), await node.submit(lines(6))
        await eventually(lambda: len(node.model.asked) >= 3)
        await node.log.publish(BatchCanceled(batch_id=canceled, at_ms=2))
        assert await node.state(canceled, BatchState.CANCELED) == ""
        assert {row["error"]["error_code"] for row in node.results(canceled)} == {"CANCELLED"}
        await node.log.publish(EndpointDeleted(endpoint_id="e1", at_ms=3))
        assert await node.state(left, BatchState.FAILED) == "The endpoint was deleted."
        assert len(node.results(left)) == 6


async def test_the_folder_is_not_given_away_while_a_thread_of_this_process_opens_files_there() -> None:
    begun, may_end, opened = Event(), Event(), []

    def work() -> None:
        begun.set()
        may_end.wait(10)
        opened.append("a file")

    opening = asyncio.create_task(to_its_end(work))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    await asyncio.sleep(0)
    assert not opening.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert opened


async def test_one_process_writes_in_the_folder(node: Node) -> None:
    async with node.running():
        await eventually((node.settings.batches_folder / ".lock").exists)
        async with node.running():
            batch_id = await node.submit(lines(4))
            await node.state(batch_id, BatchState.SUCCEEDED)
            assert len(node.model.asked) == len(set(node.model.asked))


async def test_what_is_over_is_forgotten_and_what_never_began_is_removed(
    kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    redis = new_redis(redis_settings)
    node = Node(kafka, redis, tmp_path, kept_h=1e-6)
    orphan, upload = node.folder("orphan"), node.folder("upload")
    async with node.running():
        batch_id = await node.submit(lines(4))
        await node.state(batch_id, BatchState.SUCCEEDED)
    for folder in (orphan, upload):
        folder.mkdir()
    os.utime(orphan, (time.time() - 100_000,) * 2)
    async with node.running():
        await eventually(lambda: batch_id not in node.log.snapshot().batches)
        await eventually(lambda: not orphan.exists())
        assert not node.folder(batch_id).exists()
        assert upload.exists()
    await node.model.stop()
    await redis.aclose()
