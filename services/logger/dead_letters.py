"""Where records go that no retry can help."""

import asyncio
import logging
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.shared.envelope import Headers
from services.shared.kafka_clients import new_producer
from services.shared.settings import KafkaSettings
from services.shared.topics import DEAD_LETTERS, OUTCOMES

BACKOFF_S = 1.0
ERROR_CHARS = 500  # enough to name the cause; an error text may quote what it did not like

log = logging.getLogger(__name__)


class DeadLetters:
    """Writes to `penstock.dead-letters`, for as long as it takes: what could neither be logged nor kept here would be lost."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def put(self, value: bytes, headers: Headers, source: tuple[int, int], error: str) -> None:
        """Returns when the broker has it. `source` is partition and offset of `penstock.outcomes`."""
        marked = [
            *headers,
            ("penstock-error", error[:ERROR_CHARS].encode(errors="replace")),
            ("penstock-source", f"{OUTCOMES}/{source[0]}/{source[1]}".encode()),
        ]
        while True:
            try:
                if self._producer is None:
                    self._producer = new_producer(self._settings)
                    await self._producer.start()
                await self._producer.send_and_wait(DEAD_LETTERS, value, headers=marked)
                return
            except KafkaError as failure:
                log.warning("dead letter cannot be written, trying again", extra={"error": repr(failure)})
                await self.stop()  # a producer that failed may be wedged for good (traps C1)
                await asyncio.sleep(BACKOFF_S)

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):
                await producer.stop()
