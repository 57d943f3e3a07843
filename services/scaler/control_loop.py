"""The scaler's loop: while it leads, one tick looks at every pool the control log knows."""

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka.errors import BrokerResponseError, KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.scaler.lag import SAMPLE_EVERY_S, LagReader
from services.scaler.look import take_look
from services.scaler.nudges import Nudges
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools import PoolBackend
from services.scaler.retiring import RetiringPools
from services.scaler.serving import ServingPool
from services.shared.endpoints import Pool
from services.shared.errors import DependencyLost
from services.shared.event_log import EventLog
from services.shared.leadership import Leadership
from services.shared.topics import partitions_for

log = logging.getLogger(__name__)


class ControlLoop:
    def __init__(
        self,
        events: EventLog,
        backend: PoolBackend,
        redis: Redis,
        lag: LagReader,
        topics: PoolTopics,
        retiring: RetiringPools,
        new_serving: Callable[[], ServingPool],
    ) -> None:
        self._events = events
        self._backend = backend
        self._redis = redis
        self._lag = lag
        self._topics = topics
        self._retiring = retiring
        self._new_serving = new_serving
        self._serving: dict[str, ServingPool] = {}
        self._made: set[str] = set()
        self.trouble = ""  # why the last tick was cut short

    async def run(self, leadership: Leadership, nudges: Nudges, tick_s: float) -> None:
        """Tick until cancelled, sooner where something is about to change.

        A tick that met a lost dependency changes nothing more; the next one looks again.
        """
        while True:
            await leadership.wait()
            nudged = nudges.take()
            seen = self._events.snapshot().next_offset
            try:
                await self.tick(time.monotonic(), nudged)
                self.trouble = ""
            except (DependencyLost, KafkaError, RedisError, OSError) as error:
                self.trouble = f"The last look at the pools was cut short: {error!r}"
                log.warning("tick was cut short; sizes are held", extra={"error": repr(error)})
                await asyncio.sleep(tick_s)
            closer = any(serving.wants_closer_look for serving in self._serving.values())
            await self._wait(nudges, seen, min(tick_s, SAMPLE_EVERY_S) if closer else tick_s)

    async def tick(self, now: float, nudged: frozenset[str]) -> None:
        """Look once at every pool. Raises DependencyLost, KafkaError or RedisError when something is out of reach."""
        state = await self._events.refresh()  # on an old view, what another leader has just started would look like a stray
        for pool in state.pools.values():
            if pool.pool_id not in self._made:
                await self._make_topic(pool)
        look = await take_look(state, self._backend, self._redis, now, nudged)
        for pool in state.pools.values():
            if pool.retired_at is None:
                await self._serving.setdefault(pool.pool_id, self._new_serving()).keep(pool, look)
            else:
                await self._retiring.retire(pool, look)
        for pool_id in look.processes.keys() - state.pools.keys():
            for stray in look.processes[pool_id]:
                await self._backend.stop(stray.replica_id)
        self._forget(set(state.pools))

    async def _make_topic(self, pool: Pool) -> None:
        """A topic the broker refuses holds up its own pool alone; the next tick tries again."""
        try:
            await self._topics.make(pool.pool_id, partitions_for(pool.spec.max_replicas))
        except BrokerResponseError:
            log.warning("topic of a pool cannot be made", exc_info=True, extra={"pool": pool.pool_id})
        else:
            self._made.add(pool.pool_id)

    async def _wait(self, nudges: Nudges, seen: int, tick_s: float) -> None:
        """Until the tick is over, an ingress nudges, or the control log says something new."""
        waits = [
            asyncio.create_task(nudges.wait(), name="nudge"),
            asyncio.create_task(self._events.changed(seen), name="control-log-change"),
        ]
        await asyncio.wait(waits, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _forget(self, pool_ids: set[str]) -> None:
        self._lag.keep_only(pool_ids)
        self._made &= pool_ids
        for pool_id in self._serving.keys() - pool_ids:
            del self._serving[pool_id]
