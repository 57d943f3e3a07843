"""What a replica tells of its pool, on a real broker."""

import json

from aiokafka import TopicPartition

from services.scorer.told_events import tell_event
from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.topics import EVENTS


async def test_an_event_is_told_by_pool_and_a_broker_that_is_away_is_no_failure(kafka: KafkaSettings) -> None:
    partition = TopicPartition(EVENTS, 0)
    async with new_consumer(kafka) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_end()
        await consumer.position(partition)
        await tell_event(kafka, "WORKERS_NOT_FORKED", "a pool", "because")
        record = await consumer.getone()
    assert record.key == b"a pool"
    told = json.loads(record.value)
    assert (told["event_type"], told["pool_id"], told["message"]) == ("WORKERS_NOT_FORKED", "a pool", "because")
    await tell_event(KafkaSettings(bootstrap="127.0.0.1:9"), "WORKERS_NOT_FORKED", "a pool", "because")
