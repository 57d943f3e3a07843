"""A reader of a public topic, whatever is wrong with that."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from services.ingress.submissions import topic_reader
from services.ingress.submissions.topic_reader import TopicReader
from services.shared.endpoints import PublicTopics
from services.shared.settings import KafkaSettings
from tests.unit.ingress.callers import STATE, USER

TOPICS = PublicTopics("ada", USER)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(KafkaConnectionError("away"), id="Kafka is away"), pytest.param(ValueError("odd"), id="nobody had thought of it")],
)
async def test_a_fault_ends_no_reader_but_is_tried_again(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    unused: Any = None
    reader = TopicReader(STATE.endpoints["churn"], TOPICS, KafkaSettings(), 100, unused, unused, unused, unused, unused)
    tries, thrice = 0, asyncio.Event()

    async def read() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            thrice.set()
        raise fault

    monkeypatch.setattr(topic_reader, "RETRY_PAUSE_S", 0)
    monkeypatch.setattr(reader, "_read", read)
    running = asyncio.create_task(reader.run(), name="reader")
    async with asyncio.timeout(5):
        await thrice.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
