"""Writes decisions and deploy progress to `penstock.events` (R17), for people and `penstock top`; nothing depends on them."""

import json
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.shared.clock import now_ms
from services.shared.topics import EVENTS

log = logging.getLogger(__name__)


class EventSink:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def tell(self, event_type: str, pool_id: str, message: str, **facts: int | float | str | None) -> None:
        """Log the event and append it; a Kafka that does not take it is a warning, not a failure."""
        log.info(message, extra={"event": event_type, "pool": pool_id, **facts})
        record = {"event_type": event_type, "pool_id": pool_id, "message": message, "timestamp": now_ms(), **facts}
        try:
            await self._producer.send(EVENTS, json.dumps(record).encode(), key=pool_id.encode())
        except KafkaError:
            log.warning("event was not appended", exc_info=True)
