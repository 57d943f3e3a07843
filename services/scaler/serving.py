"""Pools some config routes to, or will: keeps them at the size they need and reports what became of their deployment."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis

from services.scaler.deployment import Failed, Ready, judge_deployment
from services.scaler.lag import LagReader
from services.scaler.look import Look
from services.scaler.peaks import Peaks
from services.scaler.policy import (
    WAKING,
    Decision,
    PoolObservation,
    ScalePolicy,
    decide,
    explain,
    filling_s,
    first_replicas,
    in_panic,
    is_outgrown,
    kept_replicas,
)
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools import PoolBackend
from services.scaler.recovery import Recovery
from services.scaler.settings import ScalerSettings
from services.shared.clock import now_ms
from services.shared.control_events import EntityFailed, EntityReady
from services.shared.endpoints import Config, ConfigUpdate, Deployment, Endpoint, Pool
from services.shared.errors import Conflict, EndpointNotFound
from services.shared.event_log import EventLog
from services.shared.pool_events import EventSink
from services.shared.presence import PoolReport, read_pools, report_pool
from services.shared.tallies import WAKE, Tallies
from services.shared.topics import partitions_for, queues_of

log = logging.getLogger(__name__)


class ServingPool:
    """Keeps one pool. What it remembers may be lost: a new scaler holds sizes until it knows better, and recalls the last report."""

    def __init__(
        self,
        settings: ScalerSettings,
        events: EventLog,
        backend: PoolBackend,
        redis: Redis,
        lag: LagReader,
        topics: PoolTopics,
        sink: EventSink,
        tallies: Tallies,
    ) -> None:
        self._settings = settings
        self._events = events
        self._backend = backend
        self._redis = redis
        self._lag = lag
        self._topics = topics
        self._sink = sink
        self._tallies = tallies
        self._shrank_at = float("-inf")
        self._woken_at: float | None = None
        self._recommitted_at: float | None = None
        self._recovery = Recovery(settings.recovery_pause_s, settings.recovery_limit_s)
        self._new = True
        self._evaluation_s: float | None = None
        self._bulk_evaluation_s: float | None = None
        self._batched_s: float | None = None
        self._panicked_at = self._outgrown_at = float("-inf")
        self.wants_closer_look = False  # a panic may have begun, or a replica is about to be ready
        self._peaks = Peaks()

    async def keep(self, pool: Pool, look: Look) -> None:
        """Observe, decide and apply once."""
        if self._new:
            await self._recall(pool.pool_id)
        endpoint = look.state.endpoint_by_id(pool.endpoint_id)
        pending = config_in_progress(endpoint, pool)
        seen = self._observe(pool, look)
        if pending is not None:
            decision = Decision(first_replicas(pool.spec, _serving_now(endpoint, look)), "deploying")
        else:
            decision = await self._recovering(pool, look, decide(seen, self._policy(pool)))
        if decision.target != seen.replicas:
            await self._resize(pool, look, seen, decision)
        if pending is not None and pending.entities[pool.spec.name].deployment is Deployment.CREATING:
            await self._judge(pool, pending, look, decision.target)
        self.wants_closer_look |= decision.target > look.ready(pool.pool_id)
        await self._report(pool, look, decision)
        self._meter_wake(pool, look)
        if not look.processes[pool.pool_id] and look.lags[pool.pool_id].total is not None:  # aiokafka commits to no topic for ever
            await self._recommit_sometimes(pool, look.now)

    async def _recall(self, pool_id: str) -> None:
        """What the scaler before knew of evaluations: a pool that sleeps has no replica to tell how large it must wake."""
        for last in await read_pools(self._redis, [pool_id]):
            self._evaluation_s, self._bulk_evaluation_s, self._batched_s = last.evaluation_s, last.bulk_evaluation_s, last.batched_s
        self._new = False

    def _observe(self, pool: Pool, look: Look) -> PoolObservation:
        online, bulk = (self._lag.flow(queue, look.now) for queue in queues_of(pool.pool_id))
        reports, lags = look.reports[pool.pool_id], look.lags[pool.pool_id]
        self._evaluation_s = mean_known([r.evaluation_s for r in reports], self._evaluation_s)
        self._bulk_evaluation_s = mean_known([r.bulk_evaluation_s for r in reports], self._bulk_evaluation_s)
        self._batched_s = mean_known([r.batched_s for r in reports], self._batched_s)
        seen = PoolObservation(
            lag=lags.online,
            arrivals_per_s=online.sure_rate(self._settings.rate_window_s),
            recent_per_s=online.least_rate(self._settings.panic_window_s),
            lately_per_s=online.rate_of_last(filling_s(self._evaluation_s)),
            average_per_s=online.rate(),
            evaluation_s=self._evaluation_s,
            batched_s=self._batched_s,
            replicas=len(look.staying(pool.pool_id)),
            idle_s=min(online.idle_s(look.now), bulk.idle_s(look.now)),
            since_down_s=look.now - max(self._shrank_at, online.born_at),
            nudged=pool.pool_id in look.nudged,
            bulk_lag=lags.bulk,
            bulk_evaluation_s=self._bulk_evaluation_s,
        )
        if in_panic(seen, policy := self._policy(pool)):
            self._panicked_at = look.now
        if is_outgrown(seen, policy):
            self._outgrown_at = look.now
        last_stretch = replace(seen, recent_per_s=online.least_rate(0, stretches=1) * 2)  # what begins in it shows a part of itself
        self.wants_closer_look = in_panic(last_stretch, policy)
        kept = kept_replicas(seen, policy)
        return replace(
            seen,
            panicked=look.now - self._panicked_at < filling_s(self._evaluation_s),
            outgrown=look.now - self._outgrown_at < self._settings.rate_window_s,
            peak=self._peaks.add(look.now, kept, self._settings.down_interval_s),
        )

    def _policy(self, pool: Pool) -> ScalePolicy:
        s = self._settings
        return ScalePolicy(
            min_replicas=pool.spec.min_replicas,
            max_replicas=pool.spec.max_replicas,
            drain_budget_s=s.drain_budget_s,
            target_utilization=s.target_utilization,
            down_interval_s=s.down_interval_s,
            idle_to_zero_s=s.idle_to_zero_s,
        )

    async def _recovering(self, pool: Pool, look: Look, decision: Decision) -> Decision:
        """In a pool that serves, a failed replica is stopped and another is tried after a pause; its neighbours go on."""
        staying = look.staying(pool.pool_id)
        for replica_id in self._recovery.see(staying, look.reports[pool.pool_id], look.now):
            look.require_fresh(time.monotonic())
            await self._backend.stop(replica_id)
            told = f"{pool.spec.name}: a replica failed and is replaced: {self._recovery.failure}"
            await self._sink.tell("REPLICA_FAILED", pool.pool_id, "replica failed and is replaced", told, reason=self._recovery.failure)
        if self._recovery.pauses(look.now):
            return Decision(min(decision.target, len(staying)), "recovering")
        return decision

    async def _resize(self, pool: Pool, look: Look, seen: PoolObservation, decision: Decision) -> None:
        look.require_fresh(time.monotonic())
        await self._backend.resize(pool.pool_id, look.processes[pool.pool_id], decision.target)
        if decision.target < seen.replicas:
            self._shrank_at = look.now
        if decision.reason == WAKING:
            self._woken_at = look.now
        facts: dict[str, int | float | str | None] = {
            "endpoint": pool.endpoint_name,
            "size": seen.replicas,
            "to": decision.target,
            "reason": decision.reason,
            "lag": seen.lag,
            "bulk_lag": seen.bulk_lag,
            "arrivals_per_s": round(seen.arrivals_per_s, 1),
            "recent_per_s": round(seen.recent_per_s, 1),
            "lately_per_s": round(seen.lately_per_s, 1),
            "evaluation_s": seen.evaluation_s,
            "batched_s": seen.batched_s,
        }
        told = f"{pool.spec.name}: {explain(seen, self._policy(pool), decision)}"
        await self._sink.tell("POOL_RESIZED", pool.pool_id, "pool resized", told, **facts)

    def _meter_wake(self, pool: Pool, look: Look) -> None:
        """From the look that found the pool at zero and wanted to the one that found a replica ready."""
        if self._woken_at is not None and look.ready(pool.pool_id):
            self._tallies.observe(pool.endpoint_id, pool.spec.name, WAKE, (look.now - self._woken_at) * 1000)
            self._woken_at = None

    async def _judge(self, pool: Pool, pending: Config, look: Look, wanted: int) -> None:
        waited_s = time.time() - pending.requested_ms / 1000
        deaths = max((p.deaths for p in look.staying(pool.pool_id)), default=0)
        verdict = judge_deployment(look.reports[pool.pool_id], wanted, deaths, waited_s, self._settings.deploy_timeout_s)
        try:
            if isinstance(verdict, Ready):
                ready = EntityReady(endpoint_id=pool.endpoint_id, version=pending.version, entity=pool.spec.name, at_ms=now_ms())
                await self._events.publish(ready)
                await self._sink.tell("ENTITY_READY", pool.pool_id, "served entity is ready", after_s=round(waited_s, 1))
            elif isinstance(verdict, Failed):
                failed = EntityFailed(
                    endpoint_id=pool.endpoint_id,
                    version=pending.version,
                    entity=pool.spec.name,
                    at_ms=now_ms(),
                    message=verdict.message,
                    timed_out=verdict.timed_out,
                )
                await self._events.publish(failed)
                await self._sink.tell("ENTITY_FAILED", pool.pool_id, "served entity failed", reason=verdict.message)
        except (Conflict, EndpointNotFound):
            log.info("report came too late: the config was replaced", extra={"pool": pool.pool_id})

    async def _report(self, pool: Pool, look: Look, decision: Decision) -> None:
        replicas, lags = look.reports[pool.pool_id], look.lags[pool.pool_id]
        report = PoolReport(
            pool_id=pool.pool_id,
            wanted=decision.target,
            ready=look.ready(pool.pool_id),
            reason=decision.reason,
            lag=lags.online,
            evaluation_s=self._evaluation_s,
            bulk_lag=lags.bulk,
            bulk_evaluation_s=self._bulk_evaluation_s,
            batched_s=self._batched_s,
            max_replicas=pool.spec.max_replicas,
            failed=self._recovery.has_failed(look.now),
            failure=self._recovery.failure or next((r.message for r in replicas if r.phase == "ready" and r.message), ""),
            memory_share=mean_known([r.memory_share for r in replicas]),
            cpu_share=mean_known([r.cpu_share for r in replicas]),
            at_ms=now_ms(),
        )
        await report_pool(self._redis, report)

    async def _recommit_sometimes(self, pool: Pool, now: float) -> None:
        """R11; the first round counts from when this scaler first saw the pool asleep."""
        if self._recommitted_at is None:
            self._recommitted_at = now
        elif now - self._recommitted_at >= self._settings.recommit_interval_s:
            await self._topics.recommit(pool.pool_id, partitions_for(pool.spec.max_replicas))
            self._recommitted_at = now


def mean_known(values: Sequence[float | None], unknown: float | None = None) -> float | None:
    """`unknown` where nobody knows."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else unknown


def config_in_progress(endpoint: Endpoint | None, pool: Pool) -> Config | None:
    """The config under deployment that needs this pool, unless the pool serves already.

    Until all of it is ready the pool keeps its first size, reported ready or not.
    """
    if endpoint is None or endpoint.update is not ConfigUpdate.IN_PROGRESS or endpoint.pending is None:
        return None
    if endpoint.serving and any(e.pool_id == pool.pool_id for e in endpoint.serving.entities.values()):
        return None
    return endpoint.pending if any(e.pool_id == pool.pool_id for e in endpoint.pending.entities.values()) else None


def _serving_now(endpoint: Endpoint | None, look: Look) -> int:
    """Replicas of the largest pool that serves the endpoint now."""
    if endpoint is None or endpoint.serving is None:
        return 0
    return max(len(look.staying(entity.pool_id)) for entity in endpoint.serving.entities.values())
