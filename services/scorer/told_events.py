"""What a replica tells about its pool, for people and as the scaler does (R17); nothing depends on it."""

import logging

from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from services.shared.kafka_clients import new_producer
from services.shared.pool_events import EventSink
from services.shared.settings import KafkaSettings

log = logging.getLogger(__name__)


async def tell_event(kafka: KafkaSettings, redis: Redis, event_type: str, pool_id: str, message: str) -> None:
    """By a producer of its own: what is told so happens once in the life of a pool. What does not take it, Kafka or Redis, is a warning."""
    producer = new_producer(kafka)
    try:
        await producer.start()
        await EventSink(producer, redis).tell(event_type, pool_id, message, message)
    except KafkaError:
        log.warning("event was not told", exc_info=True)
    finally:
        await producer.stop()
