"""The control log on a real broker: read to its end, read-your-own-writes, verdicts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from services.shared.control_events import ConfigRequested, ConfigSpec, EndpointCreated, EndpointDeleted, EntityReady, EntitySpec, Route
from services.shared.errors import AlreadyExists, Conflict, EndpointNotFound
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_producer
from services.shared.settings import KafkaSettings
from services.shared.topics import CONTROL


def config(version: str = "1") -> ConfigSpec:
    return ConfigSpec(
        entities=(EntitySpec(name="m", model_name="m", model_version=version),), routes=(Route(entity="m", traffic_percentage=100),)
    )


def created(name: str) -> EndpointCreated:
    return EndpointCreated(at_ms=time.time_ns() // 1_000_000, name=name, creator="admin", config=config())


@asynccontextmanager
async def opened(kafka: KafkaSettings) -> AsyncIterator[EventLog]:
    log = EventLog(kafka)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def test_a_write_is_read_by_its_own_process_at_once(kafka: KafkaSettings) -> None:
    async with opened(kafka) as log:
        event = created(f"e{uuid4().hex}")
        state = await log.publish(event)
        assert state.endpoints[event.name].endpoint_id == event.endpoint_id


async def test_a_look_at_the_end_does_not_wait_for_the_tail(kafka: KafkaSettings) -> None:
    """The broker answers a connection in order: behind the tail's long poll each look would take half a second."""
    async with opened(kafka) as log, asyncio.timeout(2.5):
        for _ in range(10):
            await log.refresh()


async def test_a_new_process_has_read_to_the_end_before_it_serves(kafka: KafkaSettings) -> None:
    async with opened(kafka) as first:
        event = created(f"e{uuid4().hex}")
        written = await first.publish(event)
    async with opened(kafka) as second:
        assert second.snapshot().next_offset >= written.next_offset
        assert second.snapshot().endpoints[event.name] == written.endpoints[event.name]
        assert second.confirmed_age_s() < 5


async def test_of_two_writers_that_decided_on_the_same_version_one_loses(kafka: KafkaSettings) -> None:
    async with opened(kafka) as first, opened(kafka) as second:
        event = created(f"e{uuid4().hex}")
        await first.publish(event)
        await first.publish(EntityReady(at_ms=1, endpoint_id=event.endpoint_id, version=1, entity="m"))
        one, two = (ConfigRequested(at_ms=2, endpoint_id=event.endpoint_id, based_on=1, config=config(v)) for v in ("2", "3"))
        verdicts = await asyncio.gather(first.publish(one), second.publish(two), return_exceptions=True)
        assert sorted(isinstance(v, Conflict) for v in verdicts) == [False, True]
        assert await first.refresh() == await second.refresh()


async def test_a_repeat_gets_the_first_verdict(kafka: KafkaSettings) -> None:
    async with opened(kafka) as log:
        event = created(f"e{uuid4().hex}")
        await log.publish(event)
        await log.publish(event)
        with pytest.raises(AlreadyExists):
            await log.publish(created(event.name))
        await log.publish(EndpointDeleted(at_ms=2, endpoint_id=event.endpoint_id))
        with pytest.raises(EndpointNotFound):
            await log.publish(EndpointDeleted(at_ms=3, endpoint_id=event.endpoint_id))


async def test_bytes_that_are_no_event_are_passed_over(kafka: KafkaSettings) -> None:
    producer = new_producer(kafka)
    await producer.start()
    try:
        for garbage in (b"", b"{}", b"\xff\x00", b'{"type": "Unknown"}', None):
            await producer.send_and_wait(CONTROL, garbage, key=b"k", partition=0)
    finally:
        await producer.stop()
    async with opened(kafka) as log:
        event = created(f"e{uuid4().hex}")
        assert event.name in (await log.publish(event)).endpoints


async def test_refresh_sees_what_another_process_wrote(kafka: KafkaSettings) -> None:
    async with opened(kafka) as reader, opened(kafka) as writer:
        event = created(f"e{uuid4().hex}")
        await writer.publish(event)
        assert event.name in (await reader.refresh()).endpoints
        assert replace(reader.snapshot(), next_offset=0) == replace(writer.snapshot(), next_offset=0)
