"""Wires the scaler: control log, leadership, lag, the pools' backend and the loop."""

import asyncio
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient

from services.scaler.control_loop import ControlLoop
from services.scaler.lag import LagReader
from services.scaler.nudges import Nudges
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools_process import ProcessPools
from services.scaler.retiring import RetiringPools
from services.scaler.serving import ServingPool
from services.scaler.settings import ScalerServiceSettings
from services.shared.event_log import EventLog
from services.shared.health import health_served
from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.leadership import Leadership
from services.shared.node import Node
from services.shared.pool_events import EventSink
from services.shared.process import until_stopped
from services.shared.readiness import tell_ready
from services.shared.redis_clients import new_blocking_redis, new_redis
from services.shared.tallies import Tallies
from services.shared.topics import SCALER_GROUP


async def run(settings: ScalerServiceSettings) -> None:
    """Run until SIGTERM or SIGINT. Serving goes on untouched when this process ends."""
    redis, blocking = new_redis(settings.redis), new_blocking_redis(settings.redis)
    events, leadership = EventLog(settings.kafka), Leadership(settings.kafka, SCALER_GROUP, settings.scaler.instance)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)
    consumer, producer = new_consumer(settings.kafka), new_producer(settings.kafka)
    await asyncio.gather(events.start(), admin.start(), consumer.start(), producer.start(), leadership.start())
    backend, nudges = ProcessPools(Node(settings.state)), Nudges(blocking)
    lag, topics = LagReader(admin, consumer, settings.scaler.rate_window_s), PoolTopics(settings.kafka, admin)
    sink, tallies = EventSink(producer, redis), Tallies(redis)

    def new_serving() -> ServingPool:
        return ServingPool(settings.scaler, events, backend, redis, lag, topics, sink, tallies)

    async def why_not_ready() -> str:
        return loop.trouble if events.is_confirmed() else "The control log cannot be confirmed."

    loop = ControlLoop(events, backend, redis, lag, topics, RetiringPools(events, backend, topics, sink), new_serving)
    tasks = [
        asyncio.create_task(nudges.run(), name="nudges"),
        asyncio.create_task(tallies.run(), name="tallies"),
        asyncio.create_task(loop.run(leadership, nudges, settings.scaler.tick_s), name="control-loop"),
    ]
    tell_ready()
    try:
        async with health_served(why_not_ready):
            await until_stopped(tasks)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await leadership.stop()
        await producer.stop()
        await consumer.stop()
        await admin.close()
        await events.stop()
        await redis.aclose()
        await blocking.aclose()
