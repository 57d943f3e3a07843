"""Where bulk requests go, and how long they hold up the removal of a pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from services.ingress.submissions.bulk_producer import MAX_BULK_BYTES, BulkProducer, PoolRetired
from services.shared import kafka_clients, safe_producer
from services.shared.control_events import EndpointDeleted
from services.shared.envelope import ScoringRequest
from services.shared.errors import PayloadTooLarge
from services.shared.settings import KafkaSettings
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.shared.control_log import config, created, fold, ready

POOL = "e1-a-1"
REQUEST = ScoringRequest("r", "e1", "churn", "a", "0" * 32, "ada", 1, 2, "", "", "text/csv", "", 1, b"x")


class Producer:
    """`sent` are topic, partition and key of what was handed over; `acknowledgements` are to come."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes | None]] = []
        self.acknowledgements: list[asyncio.Future[object]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes | None, partition: int, **_: Any) -> "asyncio.Future[object]":
        self.sent.append((topic, partition, key))
        self.acknowledgements.append(asyncio.get_running_loop().create_future())
        return self.acknowledgements[-1]


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    made: list[Producer] = []

    def new_producer(_: KafkaSettings) -> Producer:
        made.append(Producer())
        return made[-1]

    monkeypatch.setattr(kafka_clients, "new_producer", new_producer)
    monkeypatch.setattr(safe_producer, "FIRST_PAUSE_S", 0)
    return made


@asynccontextmanager
async def running() -> AsyncIterator[tuple[BulkProducer, FoldingLog]]:
    events = FoldingLog(fold(created(config("1")), ready("a")))
    producer = BulkProducer(KafkaSettings(), events)
    task = asyncio.create_task(producer.run(), name="bulk-producer")
    yield producer, events
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await producer.stop()


async def settled() -> None:
    for _ in range(12):  # a round's start, its acknowledgements, a producer's replacing
        await asyncio.sleep(0)


async def test_what_is_under_way_holds_the_snapshot_that_vouched_for_its_pool(producers: list[Producer]) -> None:
    """Its caller may be gone: the pool's topic must not be removed before the record has come (R10)."""
    async with running() as (producer, events):
        sending = asyncio.create_task(producer.send(POOL, REQUEST), name="send")
        await settled()
        routed_at = events.snapshot().next_offset
        await events.publish(EndpointDeleted(endpoint_id="e1", at_ms=5))
        sending.cancel()
        await settled()
        assert producer.routed_from(events.snapshot().next_offset) == routed_at
        producers[0].acknowledgements[0].set_result(None)
        await producer.drained()
        assert producer.routed_from(events.snapshot().next_offset) == routed_at + 1


async def test_a_record_that_was_not_acknowledged_goes_to_the_same_partition_again(producers: list[Producer]) -> None:
    async with running() as (producer, _):
        sending = asyncio.create_task(producer.send(POOL, replace(REQUEST, key=b"k")), name="send")
        await settled()
        producers[0].acknowledgements[0].set_exception(KafkaError())
        await settled()
        assert not sending.done()
        producers[1].acknowledgements[0].set_result(None)
        await sending
        assert producers[0].sent == producers[1].sent == [(f"penstock.pool.{POOL}.bulk", 0, b"k")]


async def test_records_are_spread_over_the_partitions_evenly(producers: list[Producer]) -> None:
    async with running() as (producer, _):
        sending = [asyncio.create_task(producer.send(POOL, REQUEST), name="send") for _ in range(8)]
        await settled()
        assert sorted(partition for _, partition, _ in producers[0].sent) == [0, 0, 1, 1, 2, 2, 3, 3]
        for acknowledgement in producers[0].acknowledgements:
            acknowledgement.set_result(None)
        await asyncio.gather(*sending)
        assert producer.appended(POOL) == 8


async def test_nothing_goes_to_a_pool_that_is_retired_or_gone(producers: list[Producer]) -> None:
    async with running() as (producer, events):
        await events.publish(EndpointDeleted(endpoint_id="e1", at_ms=5))
        for pool_id in (POOL, "never-was-1"):
            with pytest.raises(PoolRetired):
                await producer.send(pool_id, REQUEST)
        assert not producers


async def test_what_kafka_would_not_take_is_refused_and_holds_up_nothing(producers: list[Producer]) -> None:
    async with running() as (producer, _):
        with pytest.raises(PayloadTooLarge):
            await producer.send(POOL, replace(REQUEST, body=b"x" * (MAX_BULK_BYTES + 1)))
        assert producer.routed_from(99) == 99
