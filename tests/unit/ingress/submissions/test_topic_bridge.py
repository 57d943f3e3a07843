"""Whose public topics are read, and that they are there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from aiokafka.errors import KafkaError

from services.ingress.submissions import topic_bridge
from services.ingress.submissions.topic_bridge import TopicBridge
from services.ingress.submissions.topic_reader import TopicReader
from services.shared.control_events import EndpointDeleted, TopicsSwitched
from services.shared.endpoints import Endpoint, PublicTopics
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.shared.control_log import config, created, fold, ready


class World:
    """Readers that only say that they are there, and topics that only say that they were made."""

    def __init__(self) -> None:
        self.events = FoldingLog(fold(created(config("1")), ready("a"), created(config("1"), "other", "e2"), ready("a", 1, "e2")))
        self.reading: list[str] = []
        self.made: list[str] = []

    async def make_topics(self, endpoint: str) -> None:
        self.made.append(endpoint)
        raise KafkaError("one that cannot be made holds up no other")

    def new_reader(self, endpoint: Endpoint, topics: PublicTopics) -> TopicReader:
        world, name = self, f"{endpoint.name} for {topics.requester}"

        class Reader:
            async def run(self) -> None:
                world.reading.append(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    world.reading.remove(name)

        return cast(TopicReader, Reader())

    async def switch(self, endpoint_id: str, enabled: bool, requester: str = "ada") -> None:
        await self.events.publish(TopicsSwitched(endpoint_id=endpoint_id, enabled=enabled, requester=requester, at_ms=9))
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def bridging() -> AsyncIterator[World]:
    world = World()
    bridge = asyncio.create_task(TopicBridge(world.events, world.make_topics, world.new_reader).run(), name="topics")
    await settled()
    yield world
    bridge.cancel()
    await asyncio.gather(bridge, return_exceptions=True)
    assert world.reading == [], "with the bridge its readers end"


async def test_an_endpoint_has_a_reader_while_its_topics_are_on() -> None:
    async with bridging() as world:
        assert world.reading == []
        await world.switch("e1", True)
        await world.switch("e2", True)
        assert world.reading == ["churn for ada", "other for ada"]
        await world.switch("e1", True, "eve")
        assert world.reading == ["other for ada", "churn for eve"], "one at a time"
        await world.switch("e2", False)
        assert world.reading == ["churn for eve"]
        await world.events.publish(EndpointDeleted(endpoint_id="e1", at_ms=9))
        await settled()
        assert world.reading == []


async def test_topics_that_are_on_are_made_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot write a result, since somebody removed the topic, would wait for ever."""
    monkeypatch.setattr(topic_bridge, "KEEP_EVERY_S", 0)
    async with bridging() as world:
        await world.switch("e1", True)
        await settled()
        assert set(world.made) == {"churn"}
        assert len(world.made) > 1
