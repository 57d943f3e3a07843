"""The local broker carries what it promises: a body of the largest size, to the end and back."""

from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient

from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.redis_clients import new_redis
from services.shared.settings import MIB, KafkaSettings, RedisSettings
from services.shared.topics import create_topics, online_queue, pool_topic


async def test_a_record_of_the_largest_body_crosses_the_broker(kafka: KafkaSettings) -> None:
    topic = pool_topic(online_queue(uuid4().hex), 1, kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await create_topics(admin, [topic])
    await admin.close()
    body = b"x" * (17 * MIB)
    async with new_producer(kafka) as producer:
        await producer.send_and_wait(topic.name, body)
    async with new_consumer(kafka, topic.name) as consumer:
        assert (await consumer.getone()).value == body


async def test_redis_evicts_nothing(redis_settings: RedisSettings) -> None:
    async with new_redis(redis_settings) as redis:
        assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
