"""What a replica tells about its pool in `penstock.events` (R17), as the scaler does; nothing depends on it."""

import json
import logging

from aiokafka.errors import KafkaError

from services.shared.clock import now_ms
from services.shared.kafka_clients import new_producer
from services.shared.settings import KafkaSettings
from services.shared.topics import EVENTS

log = logging.getLogger(__name__)


async def tell_event(kafka: KafkaSettings, event_type: str, pool_id: str, message: str) -> None:
    """By a producer of its own: what is told so happens once in the life of a pool. A Kafka that does not take it is a warning."""
    log.info(message, extra={"event": event_type, "pool": pool_id})
    record = {"event_type": event_type, "pool_id": pool_id, "message": message, "timestamp": now_ms()}
    producer = new_producer(kafka)
    try:
        await producer.start()
        await producer.send_and_wait(EVENTS, json.dumps(record).encode(), key=pool_id.encode())
    except KafkaError:
        log.warning("event was not told", exc_info=True)
    finally:
        await producer.stop()
