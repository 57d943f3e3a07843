"""A producer that does not give up: records are sent until the broker has them."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.shared.envelope import Headers
from services.shared.kafka_clients import started_producer
from services.shared.settings import KafkaSettings

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    value: bytes | None
    headers: Headers = ()
    key: bytes | None = None


class SafeProducer:
    """Used by one task. A producer that failed may be wedged for good (traps C1), so it is replaced and all is sent again."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def begin(self, records: Sequence[Record]) -> "list[asyncio.Future[object]]":
        """Hand the records to the producer; `finish` waits for the broker. Never raises for Kafka: `finish` will try again."""
        try:
            producer = await self._ready()
            return [await producer.send(r.topic, r.value, r.key, r.partition, headers=list(r.headers)) for r in records]
        except (KafkaError, OSError) as error:
            failed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return [failed]

    async def finish(self, records: Sequence[Record], sent: "list[asyncio.Future[object]]") -> None:
        """Return when the broker has all `records`, of which `sent` is the first try."""
        pause_s = FIRST_PAUSE_S
        while True:
            results = await asyncio.gather(*sent, return_exceptions=True)
            failure = next((r for r in results if isinstance(r, BaseException)), None)
            if failure is None:
                return
            if not isinstance(failure, KafkaError | OSError):
                raise failure
            log.warning("records cannot be written, trying again", extra={"error": repr(failure)})
            await self.stop()
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            sent = await self.begin(records)

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(LONGEST_PAUSE_S):
                    await producer.stop()

    async def _ready(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = await started_producer(self._settings)
        return self._producer
