"""How many replicas a pool should have. Pure: the clock, the figures and the history come in."""

from dataclasses import dataclass
from math import ceil

from services.shared.control_events import LANES_PER_REPLICA, EntitySpec


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """One look at a pool in service. None means not known, never zero."""

    lag: int | None  # records appended but not committed, so those being scored count too
    arrivals_per_s: float  # records appended, over the rate window
    evaluation_s: float | None  # moving average of one evaluation
    replicas: int  # replicas asked for and not leaving, ready or not
    idle_s: float  # seconds since a record was last appended
    since_down_s: float  # seconds since this pool last shrank
    nudged: bool = False  # an ingress is about to append a record to a pool at zero
    bulk_lag: int | None = 0  # as `lag`, of the pool's bulk queue
    bulk_evaluation_s: float | None = None  # as `evaluation_s`, of one bulk record


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    min_replicas: int  # 0 only where scale to zero is enabled
    max_replicas: int  # never above the partitions of the topic: a consumer beyond them would sit idle
    drain_budget_s: float
    target_utilization: float  # share of its lanes a pool is sized to keep busy: at 1 a full pool would look as if it sufficed
    down_interval_s: float
    idle_to_zero_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    target: int
    reason: str


def decide(seen: PoolObservation, policy: ScalePolicy) -> Decision:
    """Choose the replica count for one pool.

    Up at once, to the concurrency that drains the backlog within its budget and serves what arrives; down at most once per
    `down_interval_s`; to zero after `idle_to_zero_s` without a record, where the minimum is 0. Bulk work counts as online work
    does, within the same maximum. A lag that is not known holds the size. Never raises on a policy with 0 ≤ min ≤ max, max ≥ 1.
    Source: design §7, databricks_surface §5.
    """
    if seen.lag is None or seen.bulk_lag is None:
        return Decision(seen.replicas, "lag unknown")
    wakes = seen.lag > 0 or seen.bulk_lag > 0 or seen.nudged
    if seen.replicas == 0:
        if policy.min_replicas == 0 and not wakes:
            return Decision(0, "idle")
    elif policy.min_replicas == 0 and not wakes and seen.idle_s >= policy.idle_to_zero_s:
        return Decision(0, "idle")
    floor = max(1, policy.min_replicas)
    target = min(max(floor, needed_replicas(seen, policy)), policy.max_replicas)
    if target > seen.replicas:
        return Decision(target, "backlog" if wakes else "minimum")
    if target < seen.replicas and seen.since_down_s < policy.down_interval_s:
        return Decision(seen.replicas, "waiting to shrink")
    return Decision(target, "drained" if target < seen.replicas else "steady")


def needed_replicas(seen: PoolObservation, policy: ScalePolicy) -> int:
    """Little's law: concurrency = (arrivals + backlog ÷ budget) × evaluation time; what takes a time that is unknown counts nothing.

    Bulk work arrives as fast as it is taken, so its backlog alone counts.
    """
    concurrency = 0.0
    if seen.lag is not None and seen.evaluation_s is not None:
        concurrency += (seen.arrivals_per_s + seen.lag / policy.drain_budget_s) * seen.evaluation_s
    if seen.bulk_lag is not None and seen.bulk_evaluation_s is not None:
        concurrency += seen.bulk_lag / policy.drain_budget_s * seen.bulk_evaluation_s
    return ceil(concurrency / (LANES_PER_REPLICA * policy.target_utilization))


def first_replicas(spec: EntitySpec, serving_now: int) -> int:
    """The size a new pool must reach before it counts as ready: what the pools it joins or replaces have now (R12)."""
    return min(spec.max_replicas, max(1, spec.min_replicas, serving_now))
