"""The scaler's loop: while it leads, one tick looks at every pool the control log knows."""

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka.errors import BrokerResponseError, KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.scaler.lag import SAMPLE_EVERY_S, LagReader
from services.scaler.look import Look, take_look
from services.scaler.nudges import Nudges
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools import PoolBackend
from services.scaler.retiring import RetiringPools
from services.scaler.serving import ServingPool
from services.shared.endpoints import ControlState, Pool
from services.shared.errors import DependencyLost
from services.shared.event_log import EventLog
from services.shared.leadership import Leadership
from services.shared.topics import partitions_for

OUT_OF_REACH = (DependencyLost, KafkaError, RedisError, OSError)

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
        """Tick until cancelled, sooner where something is about to change; between two ticks look at the pools that are nudged.

        A tick that met a lost dependency changes nothing more; the next one looks again.
        """
        while True:
            await leadership.wait()
            seen = self._events.snapshot().next_offset
            await self._try(nudges.take(), None, tick_s)
            ends_at = time.monotonic() + self._pause_s(tick_s)
            while await self._is_nudged(nudges, seen, ends_at) and leadership.leads():
                nudged = nudges.take_fresh()
                await self._try(nudged, nudged, tick_s)
                ends_at = min(ends_at, time.monotonic() + self._pause_s(tick_s))

    async def tick(self, now: float, nudged: frozenset[str], only: frozenset[str] | None = None) -> Exception | None:
        """Look once at every pool, or `only` at some. What holds up one pool holds up no other; returns the first such error.

        Raises DependencyLost, KafkaError or RedisError when something is out of reach that all pools need.
        """
        state = await self._events.refresh()  # on an old view, what another leader has just started would look like a stray
        pools = [pool for pool in state.pools.values() if only is None or pool.pool_id in only]
        for pool in pools:
            if pool.pool_id not in self._made:
                await self._make_topic(pool)
        look = await take_look(state, pools, self._backend, self._redis, self._lag, now, nudged)
        held_up = [error for pool in pools if (error := await self._look_after(pool, look)) is not None]
        if only is None:
            for pool_id in look.processes.keys() - state.pools.keys():
                for stray in look.processes[pool_id]:
                    look.require_fresh(time.monotonic())
                    await self._backend.stop(stray.replica_id)
        self._forget(state)
        return held_up[0] if held_up else None

    async def _try(self, nudged: frozenset[str], only: frozenset[str] | None, pause_s: float) -> None:
        try:
            error = await self.tick(time.monotonic(), nudged, only)
        except OUT_OF_REACH as lost:
            error = lost
            log.warning("tick was cut short; sizes are held", extra={"error": repr(error)})
            await asyncio.sleep(pause_s)
        self.trouble = f"The last look at the pools was cut short: {error!r}" if error else ""

    async def _look_after(self, pool: Pool, look: Look) -> Exception | None:
        try:
            look.require_fresh(time.monotonic())
            if pool.retired_at is None:
                await self._serving.setdefault(pool.pool_id, self._new_serving()).keep(pool, look)
            else:
                await self._retiring.retire(pool, look)
        except OUT_OF_REACH as error:
            log.warning("pool cannot be looked after; its size is held", extra={"pool": pool.pool_id, "error": repr(error)})
            return error
        return None

    async def _make_topic(self, pool: Pool) -> None:
        """A topic the broker refuses holds up its own pool alone; the next tick tries again."""
        try:
            await self._topics.make(pool.pool_id, partitions_for(pool.spec.max_replicas))
        except BrokerResponseError:
            log.warning("topic of a pool cannot be made", exc_info=True, extra={"pool": pool.pool_id})
        else:
            self._made.add(pool.pool_id)

    def _pause_s(self, tick_s: float) -> float:
        closer = any(serving.wants_closer_look for serving in self._serving.values())
        return min(tick_s, SAMPLE_EVERY_S) if closer else tick_s

    async def _is_nudged(self, nudges: Nudges, seen: int, ends_at: float) -> bool:
        """Waits until an ingress nudges; False once the tick is over, or the control log says something new."""
        nudge = asyncio.create_task(nudges.wait(), name="nudge")
        change = asyncio.create_task(self._events.changed(seen), name="control-log-change")
        await asyncio.wait({nudge, change}, timeout=max(0.0, ends_at - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        nudged = nudge.done() and not change.done()
        for task in (nudge, change):
            task.cancel()
        await asyncio.gather(nudge, change, return_exceptions=True)
        return nudged

    def _forget(self, state: ControlState) -> None:
        self._lag.keep_only(set(state.pools))
        self._made &= state.pools.keys()
        for pool_id in [pool_id for pool_id in self._serving if (pool := state.pools.get(pool_id)) is None or pool.retired_at is not None]:
            del self._serving[pool_id]
