"""Pools some config routes to, or will: keeps them at the size they need and reports what became of their deployment."""

import logging
import time
from collections.abc import Sequence

from redis.asyncio import Redis

from services.scaler.deployment import Failed, Ready, judge_deployment
from services.scaler.events import EventSink
from services.scaler.lag import LagReader, Lags
from services.scaler.look import Look
from services.scaler.policy import Decision, PoolObservation, ScalePolicy, decide, first_replicas
from services.scaler.pool_topics import PoolTopics
from services.scaler.pools import PoolBackend
from services.scaler.settings import ScalerSettings
from services.shared.clock import now_ms
from services.shared.control_events import EntityFailed, EntityReady
from services.shared.endpoints import Config, ConfigUpdate, Deployment, Endpoint, Pool
from services.shared.errors import Conflict, EndpointNotFound
from services.shared.event_log import EventLog
from services.shared.presence import PoolReport, report_pool
from services.shared.topics import partitions_for, queues_of

log = logging.getLogger(__name__)


class ServingPool:
    """Keeps one pool. What it remembers may be lost: a new scaler holds sizes until it knows better."""

    def __init__(
        self,
        settings: ScalerSettings,
        events: EventLog,
        backend: PoolBackend,
        redis: Redis,
        lag: LagReader,
        topics: PoolTopics,
        sink: EventSink,
    ) -> None:
        self._settings = settings
        self._events = events
        self._backend = backend
        self._redis = redis
        self._lag = lag
        self._topics = topics
        self._sink = sink
        self._shrank_at = float("-inf")
        self._recommitted_at: float | None = None
        self._retry_at = float("-inf")
        self._failure = ""
        self._evaluation_s: float | None = None
        self._bulk_evaluation_s: float | None = None

    async def keep(self, pool: Pool, look: Look) -> None:
        """Observe, decide and apply once."""
        endpoint = look.state.endpoint_by_id(pool.endpoint_id)
        lags = await self._lag.of_pool(pool, look.now)
        pending = config_in_progress(endpoint, pool)
        size = len(look.staying(pool.pool_id))
        if pending is not None:
            decision = Decision(first_replicas(pool.spec, _serving_now(endpoint, look)), "deploying")
        else:
            decision = await self._recovering(pool, look, decide(self._observe(pool, look, lags, size), self._policy(pool)))
        if decision.target != size:
            await self._resize(pool, look, size, decision, lags)
        if pending is not None and pending.entities[pool.spec.name].deployment is Deployment.CREATING:
            await self._judge(pool, pending, look, decision.target)
        await self._report(pool, look, decision, lags)
        if not look.processes[pool.pool_id]:
            await self._recommit_sometimes(pool, look.now)

    def _observe(self, pool: Pool, look: Look, lags: Lags, size: int) -> PoolObservation:
        online, bulk = (self._lag.flow(queue, look.now) for queue in queues_of(pool.pool_id))
        reports = look.reports[pool.pool_id]
        self._evaluation_s = mean_known([r.evaluation_s for r in reports], self._evaluation_s)
        self._bulk_evaluation_s = mean_known([r.bulk_evaluation_s for r in reports], self._bulk_evaluation_s)
        return PoolObservation(
            lag=lags.online,
            arrivals_per_s=online.rate(),
            evaluation_s=self._evaluation_s,
            replicas=size,
            idle_s=min(online.idle_s(look.now), bulk.idle_s(look.now)),
            since_down_s=look.now - max(self._shrank_at, online.born_at),
            nudged=pool.pool_id in look.nudged,
            bulk_lag=lags.bulk,
            bulk_evaluation_s=self._bulk_evaluation_s,
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
        failed = {r.replica_id: r.message for r in look.reports[pool.pool_id] if r.phase == "failed"}
        staying = look.staying(pool.pool_id)
        for process in (p for p in staying if p.replica_id in failed):
            await self._backend.stop(process.replica_id)
            self._failure = failed[process.replica_id]
            self._retry_at = look.now + self._settings.recovery_pause_s
            await self._sink.tell("REPLICA_FAILED", pool.pool_id, "replica failed and is replaced", reason=self._failure)
        if look.now < self._retry_at:
            return Decision(min(decision.target, len(staying)), "recovering")
        if look.ready(pool.pool_id):
            self._failure = ""
        return decision

    async def _resize(self, pool: Pool, look: Look, size: int, decision: Decision, lags: Lags) -> None:
        await self._backend.resize(pool.pool_id, look.processes[pool.pool_id], decision.target)
        if decision.target < size:
            self._shrank_at = look.now
        facts: dict[str, int | str | None] = {
            "endpoint": pool.endpoint_name,
            "size": size,
            "to": decision.target,
            "reason": decision.reason,
            "lag": lags.online,
            "bulk_lag": lags.bulk,
        }
        await self._sink.tell("POOL_RESIZED", pool.pool_id, "pool resized", **facts)

    async def _judge(self, pool: Pool, pending: Config, look: Look, wanted: int) -> None:
        waited_s = time.time() - pending.requested_ms / 1000
        restarts = max((p.restarts for p in look.staying(pool.pool_id)), default=0)
        verdict = judge_deployment(look.reports[pool.pool_id], wanted, restarts, waited_s, self._settings.deploy_timeout_s)
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

    async def _report(self, pool: Pool, look: Look, decision: Decision, lags: Lags) -> None:
        replicas = look.reports[pool.pool_id]
        report = PoolReport(
            pool_id=pool.pool_id,
            wanted=decision.target,
            ready=look.ready(pool.pool_id),
            reason=decision.reason,
            lag=lags.online,
            evaluation_s=self._evaluation_s,
            bulk_lag=lags.bulk,
            bulk_evaluation_s=self._bulk_evaluation_s,
            max_replicas=pool.spec.max_replicas,
            failure=self._failure or next((r.message for r in replicas if r.phase == "ready" and r.message), ""),
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
