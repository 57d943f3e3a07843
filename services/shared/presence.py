"""What processes tell each other about themselves through Redis: short-lived, rewritten every second, never the truth."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from services.shared.control_events import LANES_PER_REPLICA
from services.shared.topics import INGRESSES_KEY, TABLE_FAULTS_KEY, pool_events_key, pool_key, replica_key

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
KEPT_EVENTS = 100  # of a pool
EVENTS_TTL_S = 14 * 24 * 3600
REPORT_TTL_S = 10  # a report older than this counts as absent


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReplicaReport(_Report):
    """One replica of a pool. `phase` moves building → loading → ready → draining; `failed` ends a deployment.

    Only `ready` replicas count; `message` says for the user why a replica failed, or why a ready one has no model worker now.
    `memory_share` is the model worker's of its limit, `cpu_share` of the machine's cores; None: there is none.
    """

    pool_id: str
    replica_id: str
    phase: str
    message: str = ""
    in_flight: int = 0
    memory_share: float | None = None
    cpu_share: float | None = None
    evaluation_s: float | None = None  # moving average of one evaluation
    batched_s: float | None = None  # as `evaluation_s`, with the company that a busy pool gives
    bulk_evaluation_s: float | None = None  # of one bulk record
    at_ms: int


class IngressReport(_Report):
    """One ingress process. No request of it goes, or is still being produced, by a snapshot older than `routed_from`."""

    ingress_id: str
    routed_from: int
    in_flight: dict[str, int] = {}  # pool id → requests that wait
    at_ms: int


class PoolReport(_Report):
    """What the scaler last decided and saw for a pool. None means not known, never zero."""

    pool_id: str
    wanted: int
    ready: int
    reason: str
    lag: int | None = None
    evaluation_s: float | None = None
    max_replicas: int
    bulk_lag: int | None = None
    bulk_evaluation_s: float | None = None  # of one bulk record, as `evaluation_s` is of an online one
    batched_s: float | None = None  # as `evaluation_s`, with the company that a busy pool gives
    failure: str = ""  # why replicas of an active pool do not come up
    failed: bool = False  # and that for so long that somebody has to look
    memory_share: float | None = None  # the mean of its replicas', as `cpu_share`
    cpu_share: float | None = None
    at_ms: int

    @property
    def drain_rate_at_max(self) -> float | None:
        """Requests/s the pool scores at its largest size."""
        return self.max_replicas * LANES_PER_REPLICA / self.evaluation_s if self.evaluation_s else None

    def lag_left(self, at_ms: int) -> int:
        """What is left of the lag after what the pool has scored since, at the size it had; 0 where the lag is not known."""
        if not self.lag or not self.evaluation_s:
            return self.lag or 0
        scored = self.ready * LANES_PER_REPLICA / self.evaluation_s * max(0, at_ms - self.at_ms) / 1000
        return max(0, self.lag - int(scored))


class PoolEvent(_Report):
    """Something the scaler did with a pool, or saw of it."""

    event_type: str
    message: str
    at_ms: int


R = TypeVar("R", bound=_Report)


async def report_replica(redis: Redis, report: ReplicaReport) -> None:
    await redis.set(replica_key(report.replica_id), report.model_dump_json(), ex=REPORT_TTL_S)


async def read_replicas(redis: Redis, replica_ids: list[str]) -> list[ReplicaReport]:
    """Reports of those replicas that made one lately."""
    return await _read(redis, [replica_key(i) for i in replica_ids], ReplicaReport)


async def report_pool(redis: Redis, report: PoolReport) -> None:
    await redis.set(pool_key(report.pool_id), report.model_dump_json(), ex=REPORT_TTL_S)


async def read_pools(redis: Redis, pool_ids: list[str]) -> list[PoolReport]:
    return await _read(redis, [pool_key(i) for i in pool_ids], PoolReport)


async def keep_pool_event(redis: Redis, pool_id: str, event: PoolEvent) -> None:
    """The newest of each pool, for as long as `penstock.events` keeps them by default."""
    async with redis.pipeline(transaction=False) as commands:
        commands.lpush(pool_events_key(pool_id), event.model_dump_json())
        commands.ltrim(pool_events_key(pool_id), 0, KEPT_EVENTS - 1)
        commands.expire(pool_events_key(pool_id), EVENTS_TTL_S)
        await commands.execute()


async def read_pool_events(redis: Redis, pool_ids: Iterable[str]) -> list[PoolEvent]:
    """Of all these pools, in no order."""
    found: list[PoolEvent] = []
    for pool_id in pool_ids:
        kept: Any = redis.lrange(pool_events_key(pool_id), 0, -1)
        found += _parsed(await kept, PoolEvent)
    return found


async def report_table_fault(redis: Redis, table: str, message: str) -> None:
    """Stays until it is forgotten: whoever mends a table may take days, and nothing is written to it meanwhile."""
    await redis.hset(TABLE_FAULTS_KEY, table, message)


async def forget_table_fault(redis: Redis, table: str) -> None:
    await redis.hdel(TABLE_FAULTS_KEY, table)


async def read_table_faults(redis: Redis) -> dict[str, str]:
    """catalog.schema.table → why it cannot be written."""
    found: Any = await redis.hgetall(TABLE_FAULTS_KEY)
    return {table.decode(): message.decode() for table, message in found.items()}


async def report_ingress(redis: Redis, report: IngressReport) -> None:
    await redis.hset(INGRESSES_KEY, report.ingress_id, report.model_dump_json())


async def forget_ingress(redis: Redis, ingress_id: str) -> None:
    await redis.hdel(INGRESSES_KEY, ingress_id)


async def read_ingresses(redis: Redis, now_ms: int) -> list[IngressReport]:
    """Live ingress processes; what has not reported for REPORT_TTL_S is dropped from the hash."""
    reports = _parsed((await redis.hgetall(INGRESSES_KEY)).values(), IngressReport)
    stale = [r.ingress_id for r in reports if now_ms - r.at_ms > REPORT_TTL_S * 1000]
    if stale:
        await redis.hdel(INGRESSES_KEY, *stale)
    return [r for r in reports if r.ingress_id not in stale]


def in_flight_by_pool(reports: Iterable[IngressReport]) -> Mapping[str, int]:
    """Pool id → requests that wait in these ingress processes; 0 for a pool nobody names."""
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report.in_flight)
    return total


def in_flight_elsewhere(reports: Iterable[IngressReport], ingress_id: str) -> Mapping[str, int]:
    """As `in_flight_by_pool`, of all processes but this one."""
    return in_flight_by_pool(report for report in reports if report.ingress_id != ingress_id)


async def knows_reporters(redis: Redis) -> bool:
    """False while a Redis that just came back may still lack reports of processes that live: absent is then not known."""
    return int((await redis.info("server"))["uptime_in_seconds"]) > REPORT_TTL_S


async def _read(redis: Redis, keys: list[str], kind: type[R]) -> list[R]:
    if not keys:
        return []
    return _parsed(await redis.mget(keys), kind)


def _parsed(values: Iterable[bytes | str | None], kind: type[R]) -> list[R]:
    """A report that cannot be read, perhaps of another version, is as good as none."""
    reports = []
    for value in values:
        try:
            reports += [kind.model_validate_json(value)] if value is not None else []
        except ValidationError:
            log.warning("report cannot be read", extra={"kind": kind.__name__})
    return reports
