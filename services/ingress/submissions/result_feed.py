"""Reads the results of batches' items: each is handed on, and its offset committed once that is kept."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.shared.errors import EnvelopeInvalid
from services.shared.kafka_clients import new_consumer
from services.shared.results import ScoringResult, parse_result
from services.shared.settings import KafkaSettings
from services.shared.topics import BATCH_RESULTS, BATCHES_GROUP

MOST_AT_ONCE = 500
POLL_MS = 500
PAUSE_S = 1.0

log = logging.getLogger(__name__)
PARTITION = TopicPartition(BATCH_RESULTS, 0)


class ResultFeed:
    """Begins where an earlier process has committed, else at the beginning."""

    def __init__(self, settings: KafkaSettings, take: Callable[[ScoringResult], None], keep: Callable[[], Awaitable[None]]) -> None:
        self._consumer: AIOKafkaConsumer = new_consumer(settings, group_id=BATCHES_GROUP)
        self._take = take
        self._keep = keep
        self._position = 0
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign([PARTITION])
        self._position = await self._consumer.position(PARTITION)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                taken = await self._consumer.getmany(PARTITION, timeout_ms=POLL_MS, max_records=MOST_AT_ONCE)
                await self._pass_on(taken.get(PARTITION, []))
                await self._reached(await self._consumer.position(PARTITION))
            except KafkaError as error:
                log.warning("results cannot be read, trying again", extra={"error": repr(error)})
                await asyncio.sleep(PAUSE_S)

    async def read_to_end(self) -> None:
        """Returns when all that is there now has been handed on."""
        while True:
            try:
                end = (await self._consumer.end_offsets([PARTITION]))[PARTITION]
                break
            except KafkaError as error:
                log.warning("the end of the results cannot be found, trying again", extra={"error": repr(error)})
                await asyncio.sleep(PAUSE_S)
        async with self._moved:
            await self._moved.wait_for(lambda: self._position >= end)

    async def _pass_on(self, records: list[ConsumerRecord]) -> None:
        if not records:
            return
        for record in records:
            try:
                self._take(parse_result(record.headers, record.value, record.key))
            except EnvelopeInvalid as error:
                log.warning("record among the results is none", extra={"offset": record.offset, "error": str(error)})
        await self._keep()
        await self._consumer.commit({PARTITION: records[-1].offset + 1})

    async def _reached(self, position: int) -> None:
        """Also what lies behind records that are kept no more."""
        async with self._moved:
            self._position = position
            self._moved.notify_all()
