"""The topics door: a reader for each endpoint whose public topics are on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from services.ingress.submissions.topic_reader import TopicReader
from services.shared.endpoints import ControlState, Endpoint, PublicTopics
from services.shared.event_log import EventLog
from services.shared.process import vital

KEEP_EVERY_S = 30.0

log = logging.getLogger(__name__)

Door = tuple[str, PublicTopics]  # endpoint id, as whose requests


class TopicBridge:
    """`make_topics` makes what is not there of an endpoint's topics."""

    def __init__(
        self,
        events: EventLog,
        make_topics: Callable[[str], Awaitable[None]],
        new_reader: Callable[[Endpoint, PublicTopics], TopicReader],
    ) -> None:
        self._events = events
        self._make_topics = make_topics
        self._new_reader = new_reader
        self._readers: dict[Door, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Runs until cancelled, and then ends its readers."""
        keeping = vital(self._keep_topics(), "public-topics")
        try:
            while True:
                state = self._events.snapshot()
                await self._follow(state)
                await self._events.changed(state.next_offset)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._end(set(self._readers))

    async def _keep_topics(self) -> None:
        """A results topic that somebody removed would hold up whatever is to be written there for ever: hosts, and our producer."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            for endpoint in self._events.snapshot().endpoints.values():
                if endpoint.topics:
                    try:
                        await self._make_topics(endpoint.name)
                    except (KafkaError, OSError) as error:
                        log.warning("public topics cannot be made", extra={"endpoint": endpoint.name, "error": repr(error)})

    async def _follow(self, state: ControlState) -> None:
        wanted = {(e.endpoint_id, e.topics): (e, e.topics) for e in state.endpoints.values() if e.topics}
        await self._end(self._readers.keys() - wanted.keys())
        for door in wanted.keys() - self._readers.keys():
            endpoint, topics = wanted[door]
            self._readers[door] = vital(self._new_reader(endpoint, topics).run(), f"reader-{endpoint.name}")

    async def _end(self, doors: "set[Door]") -> None:
        ended = [self._readers.pop(door) for door in doors]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
