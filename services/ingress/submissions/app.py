"""Wires the submissions process: leadership, its report, the producer, and what hands work to it."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from redis.exceptions import RedisError

from services.ingress.rate_limiter import RateLimiter
from services.ingress.settings import IngressServiceSettings
from services.ingress.submissions.batch_runner import BatchRunner
from services.ingress.submissions.bulk_producer import BulkProducer
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.scoring import Means
from services.ingress.submissions.served_entities import ServedEntities
from services.ingress.submissions.topic_bridge import TopicBridge
from services.ingress.submissions.topic_reader import TopicReader
from services.shared.endpoints import Endpoint, PublicTopics
from services.shared.event_log import EventLog
from services.shared.health import health_served
from services.shared.leadership import Leadership
from services.shared.process import until_stopped, vital
from services.shared.readiness import tell_ready
from services.shared.redis_clients import new_redis
from services.shared.topics import HOUR_MS, SUBMISSIONS_GROUP, create_topics, public_topics

NICENESS = 19  # online requests go before bulk work, on the machine too
DRAIN_S = 5.0
DEADLINE_H = 24.0  # of an item of a batch, from its cut

Doors = Mapping[str, Callable[[], Coroutine[Any, Any, None]]]  # name → what runs while this process leads


async def run(settings: IngressServiceSettings) -> None:
    """Run until SIGTERM or SIGINT. What is under way then comes again by itself, with the same ids."""
    os.nice(NICENESS)
    redis = new_redis(settings.redis)
    events, leadership = EventLog(settings.kafka), Leadership(settings.kafka, SUBMISSIONS_GROUP)
    producer = BulkProducer(settings.kafka, events)
    pools = Pools(redis, events, producer)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)
    limiter = RateLimiter(redis, settings.ingress.max_queries_per_second, settings.ingress.max_changes_per_5_minutes)

    async def why_not_ready() -> str:
        return "" if events.is_confirmed() else "The control log cannot be confirmed."

    async def make_topics(endpoint: str) -> None:
        await create_topics(admin, public_topics(endpoint, settings.kafka))

    def new_reader(endpoint: Endpoint, topics: PublicTopics) -> TopicReader:
        return TopicReader(endpoint, topics, settings.kafka, settings.ingress.max_body_bytes, admin, events, producer, pools, limiter)

    await asyncio.gather(events.start(), admin.start())
    await pools.exchange()
    await leadership.start()
    patience_ms = int(min(DEADLINE_H, settings.kafka.pool_retention_h) * HOUR_MS)
    means = Means(events, producer, pools, limiter, redis, patience_ms, settings.ingress.max_body_bytes)
    topics, batches = TopicBridge(events, make_topics, new_reader), BatchRunner(settings, events, means)
    entities = ServedEntities(events, settings.tables_place)
    doors: Doors = {"topics": topics.run, "batches": batches.run, "served-entities": entities.run}
    tasks = [vital(producer.run(), "bulk-producer"), vital(pools.run(), "reports"), vital(limiter.run(), "limits")]
    leading = asyncio.create_task(run_while_leading(leadership, doors), name="doors")
    tell_ready()
    try:
        async with health_served(why_not_ready):
            await until_stopped([leading])
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        await leadership.stop()
        with suppress(TimeoutError):  # Kafka is away; the report below ends by itself, and lag tells what came through
            async with asyncio.timeout(DRAIN_S):
                await producer.drained()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await producer.stop()
        with suppress(RedisError, OSError):
            await pools.leave()
        await admin.close()
        await events.stop()
        await redis.aclose()


async def run_while_leading(leadership: Leadership, doors: Doors) -> None:
    """Runs until cancelled. A door that ends by itself ends the process, to be started again."""
    while True:
        await leadership.wait()
        tasks = [vital(work(), name) for name, work in doors.items()]
        try:
            await leadership.lost()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
