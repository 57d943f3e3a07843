"""Writing to the control log while Kafka is away."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError

from services.shared import kafka_clients
from services.shared.control_events import EndpointDeleted
from services.shared.errors import DependencyLost
from services.shared.event_log import EventLog
from services.shared.settings import KafkaSettings


class Producer:
    """One that holds an event it cannot deliver: aiokafka's `stop` waits for it, and an idempotent producer never gives up."""

    def __init__(self, start_error: KafkaError | None = None) -> None:
        self.start_error, self.stopped = start_error, False

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.start_error:
            raise self.start_error

    async def send_and_wait(self, *_: Any, **__: Any) -> None:
        raise KafkaConnectionError

    async def stop(self) -> None:
        self.stopped = True
        if not self.start_error:
            await asyncio.Event().wait()


EVENT = EndpointDeleted(at_ms=1, endpoint_id="e")


async def test_the_caller_does_not_wait_for_a_producer_that_cannot_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_clients, "new_producer", lambda _: Producer())
    log = EventLog(KafkaSettings())
    async with asyncio.timeout(10):
        with pytest.raises(DependencyLost):
            await log.publish(EVENT)
        await log.stop()


async def test_two_first_publishes_share_one_producer_and_one_that_cannot_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Producer] = []

    def new_producer(_: KafkaSettings) -> Producer:
        made.append(Producer(KafkaConnectionError() if not made else None))
        return made[-1]

    monkeypatch.setattr(kafka_clients, "new_producer", new_producer)
    log = EventLog(KafkaSettings())
    results = await asyncio.gather(*(log.publish(EVENT) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(result, DependencyLost) for result in results)
    assert made[0].stopped
    assert len(made) == 2
    await log.stop()
