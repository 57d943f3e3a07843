"""The topics door: a reader for each endpoint whose public topics are on."""

import asyncio
from collections.abc import Callable

from services.ingress.submissions.topic_reader import TopicReader
from services.shared.endpoints import ControlState, Endpoint, PublicTopics
from services.shared.event_log import EventLog
from services.shared.process import vital

Door = tuple[str, PublicTopics]  # endpoint id, as whose requests


class TopicBridge:
    def __init__(self, events: EventLog, new_reader: Callable[[Endpoint, PublicTopics], TopicReader]) -> None:
        self._events = events
        self._new_reader = new_reader
        self._readers: dict[Door, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Runs until cancelled, and then ends its readers."""
        try:
            while True:
                state = self._events.snapshot()
                await self._follow(state)
                await self._events.changed(state.next_offset)
        finally:
            await self._end(set(self._readers))

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
