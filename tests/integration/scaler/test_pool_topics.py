"""Topics, groups and lag of pools on a real broker."""

import asyncio
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.scaler.lag import LagReader
from services.scaler.pool_topics import PoolTopics
from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.settings import KafkaSettings
from services.shared.topics import online_queue, online_topic, queues_of


async def gone(client: AIOKafkaAdminClient, topic: str) -> None:
    """A broker may list for a moment what its controller has deleted."""
    async with asyncio.timeout(10):
        while topic in await client.list_topics():
            await asyncio.sleep(0.05)


async def append(kafka: KafkaSettings, pool_id: str, count: int) -> None:
    producer = new_producer(kafka)
    await producer.start()
    try:
        for i in range(count):
            await producer.send_and_wait(online_topic(pool_id), b"x", partition=i % 4)
    finally:
        await producer.stop()


async def commit(kafka: KafkaSettings, pool_id: str, offsets: dict[int, int]) -> None:
    consumer = new_consumer(kafka, group_id=online_queue(pool_id).group)
    await consumer.start()
    try:
        tps = {TopicPartition(online_topic(pool_id), p): offset for p, offset in offsets.items()}
        consumer.assign(list(tps))
        await consumer.commit(tps)
    finally:
        await consumer.stop()


async def test_lag_is_known_before_the_first_member(kafka: KafkaSettings, admin: AIOKafkaAdminClient, lag: LagReader) -> None:
    pool_id = uuid4().hex
    await PoolTopics(kafka, admin).make(pool_id, 4)
    assert await lag.read(online_queue(pool_id), 4) == 0
    await append(kafka, pool_id, 10)
    assert await lag.read(online_queue(pool_id), 4) == 10
    await commit(kafka, pool_id, {0: 3})
    assert await lag.read(online_queue(pool_id), 4) == 7


async def test_what_retention_took_is_no_lag(kafka: KafkaSettings, admin: AIOKafkaAdminClient, lag: LagReader) -> None:
    """Nobody can read it, so no offset would ever be committed behind it: a pool would never sleep, a retired one never go."""
    pool_id = uuid4().hex
    await PoolTopics(kafka, admin).make(pool_id, 4)
    await append(kafka, pool_id, 10)
    await admin.delete_records({TopicPartition(online_topic(pool_id), 0): RecordsToDelete(before_offset=2)})
    assert await lag.read(online_queue(pool_id), 4) == 8


async def test_making_a_pool_again_keeps_its_offsets(kafka: KafkaSettings, admin: AIOKafkaAdminClient, lag: LagReader) -> None:
    pool_id, topics = uuid4().hex, PoolTopics(kafka, admin)
    await topics.make(pool_id, 4)
    await append(kafka, pool_id, 8)
    await commit(kafka, pool_id, {0: 2, 1: 1})
    await topics.make(pool_id, 4)
    await topics.recommit(pool_id, 4)
    assert await lag.read(online_queue(pool_id), 4) == 5


async def test_a_removed_pool_leaves_neither_topic_nor_group(kafka: KafkaSettings, admin: AIOKafkaAdminClient) -> None:
    pool_id, topics = uuid4().hex, PoolTopics(kafka, admin)
    await topics.make(pool_id, 4)
    await topics.remove(pool_id)
    await topics.remove(pool_id)
    for queue in queues_of(pool_id):
        await gone(admin, queue.topic)
        assert queue.group not in {group for group, *_ in await admin.list_consumer_groups()}


async def test_a_pool_whose_replica_was_killed_is_removed_all_the_same(kafka: KafkaSettings, admin: AIOKafkaAdminClient) -> None:
    """The broker counts the dead member in until its session is over, and refuses to delete the group until then."""
    pool_id, topics = uuid4().hex, PoolTopics(kafka, admin)
    await topics.make(pool_id, 4)
    member = new_consumer(kafka, online_topic(pool_id), group_id=online_queue(pool_id).group)
    await member.start()
    try:
        await topics.remove(pool_id)
        await gone(admin, online_topic(pool_id))
    finally:
        await member.stop()


async def test_the_queues_of_a_pool_lag_each_for_itself(kafka: KafkaSettings, admin: AIOKafkaAdminClient, lag: LagReader) -> None:
    pool_id = uuid4().hex
    await PoolTopics(kafka, admin).make(pool_id, 4)
    await append(kafka, pool_id, 3)
    assert [await lag.read(queue, 4) for queue in queues_of(pool_id)] == [3, 0]
