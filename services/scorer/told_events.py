"""What a replica tells about its pool, for people and as the scaler does (R17); nothing depends on it."""

import json
import logging

from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.clock import now_ms
from services.shared.kafka_clients import new_producer
from services.shared.presence import PoolEvent, keep_pool_event
from services.shared.settings import KafkaSettings
from services.shared.topics import EVENTS

log = logging.getLogger(__name__)


async def tell_event(kafka: KafkaSettings, redis: Redis, event_type: str, pool_id: str, message: str) -> None:
    """Append it, by a producer of its own, since what is told so happens once in the life of a pool; and keep it for the endpoint's events.

    A Kafka or Redis that does not take it is a warning.
    """
    log.info(message, extra={"event": event_type, "pool": pool_id})
    event = PoolEvent(event_type=event_type, message=message, at_ms=now_ms())
    record = {"event_type": event_type, "pool_id": pool_id, "message": message, "timestamp": event.at_ms}
    producer = new_producer(kafka)
    try:
        await producer.start()
        await producer.send_and_wait(EVENTS, json.dumps(record).encode(), key=pool_id.encode())
        await keep_pool_event(redis, pool_id, event)
    except (KafkaError, RedisError, OSError):
        log.warning("event was not told", exc_info=True)
    finally:
        await producer.stop()
