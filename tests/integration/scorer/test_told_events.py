"""What a replica tells of its pool, on a real broker."""

import json
from uuid import uuid4

from aiokafka import TopicPartition

from services.scorer.told_events import tell_event
from services.shared.kafka_clients import new_consumer
from services.shared.presence import read_pool_events
from services.shared.redis_clients import new_redis
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import EVENTS


async def test_an_event_is_told_by_pool_and_a_broker_that_is_away_is_no_failure(
    kafka: KafkaSettings, redis_settings: RedisSettings
) -> None:
    redis, pool_id = new_redis(redis_settings), uuid4().hex
    partition = TopicPartition(EVENTS, 0)
    async with new_consumer(kafka) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_end()
        await consumer.position(partition)
        await tell_event(kafka, redis, "WORKERS_NOT_FORKED", pool_id, "because")
        record = await consumer.getone()
    assert record.key == pool_id.encode()
    told = json.loads(record.value)
    assert (told["event_type"], told["pool_id"], told["message"]) == ("WORKERS_NOT_FORKED", pool_id, "because")
    assert [event.message for event in await read_pool_events(redis, [pool_id])] == ["because"]
    await tell_event(KafkaSettings(bootstrap="127.0.0.1:9"), redis, "WORKERS_NOT_FORKED", pool_id, "because")
    await redis.aclose()
