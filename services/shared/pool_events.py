"""Writes what happens to pools to `penstock.events` (R17), for people and `penstock top`; nothing depends on it."""

import json
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.clock import now_ms
from services.shared.presence import PoolEvent, keep_pool_event
from services.shared.topics import EVENTS

log = logging.getLogger(__name__)


class EventSink:
    """What happens to a pool can be read in the topic; what people are told of it in Redis as well, for the endpoint's events."""

    def __init__(self, producer: AIOKafkaProducer, redis: Redis) -> None:
        self._producer = producer
        self._redis = redis

    async def tell(self, event_type: str, pool_id: str, message: str, told: str = "", **facts: int | float | str | None) -> None:
        """Log the event and append it; a Kafka or Redis that does not take it is a warning, not a failure.

        `told` is the message for people; without it they know by the control log.
        """
        log.info(message, extra={"event": event_type, "pool": pool_id, **facts})
        event = PoolEvent(event_type=event_type, message=told or message, at_ms=now_ms())
        record = {"event_type": event_type, "pool_id": pool_id, "message": event.message, "timestamp": event.at_ms, **facts}
        try:
            await self._producer.send(EVENTS, json.dumps(record).encode(), key=pool_id.encode())
            if told:
                await keep_pool_event(self._redis, pool_id, event)
        except (KafkaError, RedisError, OSError):
            log.warning("event was not told", exc_info=True)
