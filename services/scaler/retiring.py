"""Pools nobody routes to any more: drained to the last record, then removed with topic and group (R10)."""

import time

from services.scaler.look import Look
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools import PoolBackend
from services.scaler.retirement import Step, next_step
from services.shared.clock import now_ms
from services.shared.control_events import PoolRemoved
from services.shared.endpoints import Pool
from services.shared.event_log import EventLog
from services.shared.pool_events import EventSink


class RetiringPools:
    def __init__(self, events: EventLog, backend: PoolBackend, topics: PoolTopics, sink: EventSink) -> None:
        self._events = events
        self._backend = backend
        self._topics = topics
        self._sink = sink
        self._emptied: set[str] = set()  # removal has begun: there may be no topic any more whose lag could be asked for

    async def retire(self, pool: Pool, look: Look) -> None:
        """Take the next step for one pool; a repeat after any crash goes on where the last one stopped."""
        assert pool.retired_at is not None, "only retired pools come here"
        if not look.reports_complete:
            return  # an ingress that seems gone may still append, a replica that seems gone may still answer
        if pool.pool_id in self._emptied:
            await self._remove(pool, look)
            return
        lag, processes = look.lags[pool.pool_id].total, look.processes[pool.pool_id]
        match next_step(pool.retired_at, look.ingresses, lag, look.able(pool.pool_id), len(processes)):
            case Step.REFUSE:
                await self._refuse(pool, look)
            case Step.STOP:
                for process in processes:
                    look.require_fresh(time.monotonic())
                    await self._backend.stop(process.replica_id)
            case Step.REMOVE:
                await self._remove(pool, look)
            case Step.DRAIN:
                pass  # its replicas are at it

    async def _remove(self, pool: Pool, look: Look) -> None:
        look.require_fresh(time.monotonic())
        self._emptied.add(pool.pool_id)
        await self._topics.remove(pool.pool_id)
        await self._events.publish(PoolRemoved(pool_id=pool.pool_id, at_ms=now_ms()))
        self._emptied.discard(pool.pool_id)
        await self._sink.tell("POOL_REMOVED", pool.pool_id, "pool removed", endpoint=pool.endpoint_name)

    async def _refuse(self, pool: Pool, look: Look) -> None:
        """Replicas that cannot answer would only hold partitions: they make room for the host that does."""
        for process in look.staying(pool.pool_id):
            look.require_fresh(time.monotonic())
            await self._backend.stop(process.replica_id)
        look.require_fresh(time.monotonic())
        await self._backend.refuse(pool.pool_id)
