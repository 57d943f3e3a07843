"""The scaler's loop on a real broker and a real Redis, with replicas that are only said to run."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from services.scaler.control_loop import ControlLoop
from services.scaler.lag import PATIENCE_S, LagReader
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools_process import free_ids
from services.scaler.retiring import RetiringPools
from services.scaler.serving import ServingPool
from services.scaler.settings import ScalerSettings
from services.shared.clock import now_ms
from services.shared.control_events import ConfigSpec, EndpointCreated, EntitySpec, Route
from services.shared.endpoints import ControlState
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_producer
from services.shared.node import ReplicaProcess
from services.shared.pool_events import EventSink
from services.shared.presence import PoolReport, ReplicaReport, read_pools, report_replica
from services.shared.redis_clients import new_redis
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.tallies import Tallies
from services.shared.topics import online_topic, queues_of

SETTINGS = ScalerSettings(idle_to_zero_s=4)
EVALUATION_S = 0.1


class OwnEvents(EventLog):
    """Shows the loop the pools of this test alone: other tests leave theirs in the log."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings)
        self.endpoints: set[str] = set()

    async def refresh(self) -> ControlState:
        state = await super().refresh()
        return replace(state, pools={i: pool for i, pool in state.pools.items() if pool.endpoint_name in self.endpoints})


class Replicas:
    """A backend whose replicas are ready as soon as they are asked for."""

    def __init__(self) -> None:
        self.running: list[ReplicaProcess] = []

    async def replicas(self) -> Sequence[ReplicaProcess]:
        return list(self.running)

    async def resize(self, pool_id: str, replicas: Sequence[ReplicaProcess], target: int) -> None:
        for replica_id in free_ids(pool_id, {r.replica_id for r in replicas}, target - len(replicas)):
            facts = {"replica_id": replica_id, "pool_id": pool_id, "refusing": False, "state": "running", "pid": 1, "started_ms": 1}
            self.running.append(ReplicaProcess.model_validate(facts))
        for leaving in replicas[target:]:
            await self.stop(leaving.replica_id)

    async def refuse(self, pool_id: str) -> None:
        raise AssertionError("no pool retires here")

    async def stop(self, replica_id: str) -> None:
        self.running = [r for r in self.running if r.replica_id != replica_id]

    def size(self, pool_id: str) -> int:
        return sum(r.pool_id == pool_id for r in self.running)


class Scaler:
    """One scaler, look by look, with a control log and replicas of its own."""

    def __init__(self, events: OwnEvents, replicas: Replicas, new_loop: Callable[[], ControlLoop], redis: Redis) -> None:
        self._events = events
        self.replicas = replicas
        self._new_loop = new_loop
        self._loop = new_loop()
        self._redis = redis

    async def create(self) -> str:
        """An endpoint of one pool, which may have none to sixteen replicas; returns the pool's id once it serves."""
        entity = EntitySpec(name="m", model_name="m", model_version="1", workload_size="Large", scale_to_zero_enabled=True)
        config = ConfigSpec(entities=(entity,), routes=(Route(entity="m", traffic_percentage=100),))
        name = f"e{uuid4().hex}"
        self._events.endpoints.add(name)
        await self._events.publish(EndpointCreated(at_ms=now_ms(), name=name, creator="admin", config=config))
        async with asyncio.timeout(30):
            while (serving := self._events.snapshot().endpoints[name].serving) is None:
                await self.look()
        return serving.entities["m"].pool_id

    async def look(self, *nudged: str) -> float:
        """Returns how many seconds it took."""
        for replica in self.replicas.running:
            ids = {"pool_id": replica.pool_id, "replica_id": replica.replica_id}
            await report_replica(self._redis, ReplicaReport(**ids, phase="ready", evaluation_s=EVALUATION_S, at_ms=now_ms()))
        began_at = time.monotonic()
        assert await self._loop.tick(began_at, frozenset(nudged)) is None
        return time.monotonic() - began_at

    async def report(self, pool_id: str) -> PoolReport:
        [report] = await read_pools(self._redis, [pool_id])
        return report

    def restart(self) -> None:
        """What the loop remembers is gone."""
        self._loop = self._new_loop()


@asynccontextmanager
async def scaler(kafka: KafkaSettings, redis_settings: RedisSettings, admin: AIOKafkaAdminClient, lag: LagReader) -> AsyncIterator[Scaler]:
    redis, events, producer, replicas = new_redis(redis_settings), OwnEvents(kafka), new_producer(kafka), Replicas()
    await asyncio.gather(events.start(), producer.start())
    topics, sink, tallies = PoolTopics(kafka, admin), EventSink(producer, redis), Tallies(redis)

    def new_serving() -> ServingPool:
        return ServingPool(SETTINGS, events, replicas, redis, lag, topics, sink, tallies)

    def new_loop() -> ControlLoop:
        lag.keep_only(set())  # a process that starts knows no flow
        return ControlLoop(events, replicas, redis, lag, topics, RetiringPools(events, replicas, topics, sink), new_serving)

    try:
        yield Scaler(events, replicas, new_loop, redis)
    finally:
        await producer.stop()
        await events.stop()
        await redis.aclose()


async def delete_topics(admin: AIOKafkaAdminClient, pool_id: str) -> None:
    names = [queue.topic for queue in queues_of(pool_id)]
    await admin.delete_topics(names)
    async with asyncio.timeout(10):
        while set(names) & set(await admin.list_topics()):
            await asyncio.sleep(0.05)


async def append(kafka: KafkaSettings, pool_id: str, count: int) -> None:
    producer = new_producer(kafka)
    await producer.start()
    try:
        for _ in range(count):
            await producer.send(online_topic(pool_id), b"x")
        await producer.flush()
    finally:
        await producer.stop()


async def test_a_pool_whose_topic_is_gone_holds_its_size_alone(
    kafka: KafkaSettings, redis_settings: RedisSettings, admin: AIOKafkaAdminClient, lag: LagReader
) -> None:
    """It neither sleeps nor grows by what nobody knows; the pools after it wake, grow and are deployed as ever."""
    async with scaler(kafka, redis_settings, admin, lag) as one:
        other, gone = await one.create(), await one.create()
        assert one.replicas.size(gone) == 1
        await delete_topics(admin, gone)
        await append(kafka, other, 500)
        took_s, gone_at = [await one.look(gone)], time.monotonic()
        assert one.replicas.size(other) == 3, "with 500 of 0.1 s waiting"
        async with asyncio.timeout(30):
            while time.monotonic() - gone_at < 1.5 * SETTINGS.idle_to_zero_s:
                took_s.append(await one.look())
        late = await one.create()
        report = await one.report(gone)
        assert (one.replicas.size(gone), report.wanted, report.reason, report.lag) == (1, 1, "lag unknown", None)
        assert one.replicas.size(late) == 1
        assert sorted(took_s)[-2] < PATIENCE_S, "what is not answered is not waited for again"


async def test_a_burst_at_a_sleeping_pool_wakes_what_it_needs_also_after_a_restart_of_the_scaler(
    kafka: KafkaSettings, redis_settings: RedisSettings, admin: AIOKafkaAdminClient, lag: LagReader
) -> None:
    async with scaler(kafka, redis_settings, admin, lag) as one:
        pool_id = await one.create()
        async with asyncio.timeout(30):
            while one.replicas.size(pool_id):
                await one.look()
        one.restart()
        await append(kafka, pool_id, 500)
        await one.look()
        assert one.replicas.size(pool_id) == 3, "with 500 of 0.1 s waiting"
