"""Reads what Kafka knows of the queues of pools: lag, arrivals, idleness."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.shared.endpoints import Pool
from services.shared.topics import Queue, partitions_for, queues_of

SETTLED_S = 5.0
CHANCE = 4.0  # standard deviations of a Poisson count, of which a new flow has a hundred looks in its first minute
SAMPLE_EVERY_S = 0.25  # looks may follow each other at once; over so little time a rate says nothing
PATIENCE_S = 2.0  # for a topic that is not there aiokafka looks for 40 s

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Flow:
    """The appends to one queue as seen over time. `now` is monotonic seconds throughout."""

    born_at: float
    samples: deque[tuple[float, int]] = field(default_factory=deque)  # (when, sum of end offsets)
    advanced_at: float | None = None

    def add(self, now: float, appended: int, window_s: float) -> None:
        if self.samples and appended > self.samples[-1][1]:
            self.advanced_at = now
        if self.samples and now - self.samples[-1][0] < SAMPLE_EVERY_S:
            return
        self.samples.append((now, appended))
        while len(self.samples) > 2 and self.samples[1][0] <= now - window_s:
            self.samples.popleft()

    def rate(self) -> float:
        """Records per second over the window; 0 until there are samples of SETTLED_S, since chance rules shorter times."""
        if len(self.samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self.samples[0], self.samples[-1]
        return (last - first) / (last_at - first_at) if last_at - first_at >= SETTLED_S else 0.0

    def sure_rate(self, window_s: float) -> float:
        """As `rate`; until there are samples of the whole window, what chance alone hardly brings in the time there was.

        By the average of five seconds a new leader would let every sixth pool of the right size grow within a minute.
        """
        rate, seen_s = self.rate(), self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0
        return rate if not rate or seen_s >= window_s else max(0.0, rate - CHANCE * sqrt(rate / seen_s))

    def rate_of_last(self, seconds: float) -> float:
        """Records per second of the last `seconds`; 0 until there are samples of so long."""
        latest_at, latest = self.samples[-1] if self.samples else (0.0, 0)
        for at, appended in reversed(self.samples):
            if latest_at - at >= seconds:
                return (latest - appended) / (latest_at - at)
        return 0.0

    def least_rate(self, window_s: float, stretches: int = 2) -> float:
        """Records per second of the slowest stretch between two samples of the last `window_s`; 0 until there are so many, for so long."""
        least, latest = float("inf"), self.samples[-1][0] if self.samples else 0.0
        for number, ((ended_at, ended), (began_at, began)) in enumerate(pairwise(reversed(self.samples)), start=1):
            least = min(least, (ended - began) / (ended_at - began_at))
            if number >= stretches and latest - began_at >= window_s:
                return least
        return 0.0

    def idle_s(self, now: float) -> float:
        """Seconds since a record was last appended, or since the queue was first seen."""
        return now - (self.born_at if self.advanced_at is None else self.advanced_at)


@dataclass(frozen=True, slots=True)
class Lags:
    """Of a pool's queues; None is not known."""

    online: int | None
    bulk: int | None

    @property
    def total(self) -> int | None:
        return None if self.online is None or self.bulk is None else self.online + self.bulk


class LagReader:
    """End offsets minus committed offsets, per queue. None when Kafka did not say: not knowing is not zero."""

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, window_s: float, patience_s: float = PATIENCE_S) -> None:
        self._admin = admin
        self._consumer = consumer
        self._window_s = window_s
        self._patience_s = patience_s
        self._flows: dict[Queue, Flow] = {}
        self._asking: dict[str, asyncio.Task[Lags]] = {}  # by pool id

    async def of_pools(self, pools: Collection[Pool]) -> Mapping[str, Lags]:
        """By pool id, all asked for at once: a topic that is gone leaves its own pool unknown and holds up the others once in 40 s.

        What Kafka has not answered in `patience_s` is not known. It is not asked again before that question has ended, and an
        answer so late counts for nothing: a lag of 0 must be from after the look at the ingress processes (R10).
        """
        self._asking = {pool_id: asking for pool_id, asking in self._asking.items() if not asking.done()}
        asked = {p.pool_id: asyncio.create_task(self._of_pool(p), name="lag") for p in pools if p.pool_id not in self._asking}
        self._asking |= asked
        if asked:
            await asyncio.wait(asked.values(), timeout=self._patience_s)
        answered = {pool_id: asking.result() for pool_id, asking in asked.items() if asking.done()}
        for pool_id in asked.keys() - answered.keys():
            log.warning("lag cannot be read", extra={"pool": pool_id})
        return {pool.pool_id: answered.get(pool.pool_id, Lags(None, None)) for pool in pools}

    async def _of_pool(self, pool: Pool) -> Lags:
        partitions = partitions_for(pool.spec.max_replicas)
        online, bulk = await asyncio.gather(*(self.read(queue, partitions) for queue in queues_of(pool.pool_id)))
        return Lags(online, bulk)

    async def read(self, queue: Queue, partitions: int) -> int | None:
        """The queue's lag now; also takes a sample of its flow, of the moment Kafka was asked: a full machine takes its time."""
        tps = [TopicPartition(queue.topic, p) for p in range(partitions)]
        try:
            committed = await self._admin.list_consumer_group_offsets(queue.group)
            asked_at = time.monotonic()
            ends: dict[TopicPartition, int] = await self._consumer.end_offsets(tps)
            sampled_at = (asked_at + time.monotonic()) / 2
            first: dict[TopicPartition, int] = await self._consumer.beginning_offsets(tps)
        except KafkaError:
            log.warning("lag cannot be read", exc_info=True, extra={"topic": queue.topic})
            return None
        self.flow(queue, sampled_at).add(sampled_at, sum(ends.values()), self._window_s)
        # what retention took nobody can read any more: the group's offset may stay before it for ever
        return sum(end - max(first[tp], committed[tp].offset if tp in committed else 0) for tp, end in ends.items())

    def flow(self, queue: Queue, now: float) -> Flow:
        return self._flows.setdefault(queue, Flow(now))

    def keep_only(self, pool_ids: set[str]) -> None:
        """Forget the queues of all other pools."""
        for queue in self._flows.keys() - {queue for pool_id in pool_ids for queue in queues_of(pool_id)}:
            del self._flows[queue]
