"""Admission by time, not by count (R14): refuse only what would wait too long. Pure."""

from dataclasses import dataclass
from math import ceil

from services.shared.presence import PoolReport


@dataclass(frozen=True, slots=True)
class QueueLimits:
    max_queue_wait_s: float
    max_in_flight: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """`retry_after_s` is when the estimated wait will have fallen to what is allowed."""

    reason: str
    retry_after_s: int


def estimate_wait_s(queued: int, report: PoolReport | None) -> float | None:
    """Seconds until a request that joins `queued` others is taken, at the pool's largest size. None: not known yet."""
    rate = report.drain_rate_at_max if report else None
    return queued / rate if rate else None


def should_refuse(in_flight: int, pool_in_flight: int, report: PoolReport | None, limits: QueueLimits, now_ms: int) -> Refusal | None:
    """Decide on one request; `in_flight` are all of this process, `pool_in_flight` those of the pool, in every process as far as known.

    The queue is what waits in the processes, or what should be left of the lag the scaler saw if that is more: nobody may
    wait any more for what an ingress that died has left. Without a known evaluation time nothing but `max_in_flight` refuses:
    a pool that never scored is given a chance.
    """
    if in_flight >= limits.max_in_flight:
        return Refusal("Too many requests are waiting in this process.", 1)
    queued = max(pool_in_flight, report.lag_left(now_ms) if report else 0)
    wait_s = estimate_wait_s(queued, report)
    allowed_s = min(limits.max_queue_wait_s, limits.deadline_s)
    if wait_s is None or wait_s <= allowed_s:
        return None
    return Refusal(
        "Too many concurrent requests. Consider increasing the provisioned concurrency of the served entity.",
        max(1, ceil(wait_s - allowed_s)),
    )
