"""How many replicas a pool should have. Pure: the clock, the figures and the history come in."""

from dataclasses import dataclass
from math import ceil

from services.shared.control_events import LANES_PER_REPLICA, EntitySpec

PANIC = 2.0  # times what a pool is sized for: what arrives at that pace is followed at once (Knative's panic threshold)
WAKING = "waking"  # the reason of leaving zero
CROWDED = 2  # records a lane: one in evaluation, another that waits
FILLED = 0.9  # of its lanes: callers who wait for their answers ask no faster than a full pool scores, so there is no twice
FILLING_S, FILLING_EVALUATIONS = 4.0, 20


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """One look at a pool in service. None means not known, never zero."""

    lag: int | None  # records appended but not committed, so those being scored count too
    arrivals_per_s: float  # records appended, over the rate window; until that has passed, less what may be chance
    evaluation_s: float | None  # moving average of what one request takes of a lane
    replicas: int  # replicas asked for and not leaving, ready or not
    idle_s: float  # seconds since a record was last appended
    since_down_s: float  # seconds since this pool last shrank, or was first seen
    recent_per_s: float = 0.0  # what arrived at least, all through the panic window
    lately_per_s: float = 0.0  # records appended, over `filling_s`
    average_per_s: float = 0.0  # records appended, over the rate window or what has passed of it: what may be chance keeps a pool
    batched_s: float | None = None  # as `evaluation_s`, with the company that a busy pool gives
    nudged: bool = False  # an ingress is about to append a record to a pool at zero
    bulk_lag: int | None = 0  # as `lag`, of the pool's bulk queue
    bulk_evaluation_s: float | None = None  # as `evaluation_s`, of one bulk record
    panicked: bool = False  # `in_panic` within the last `filling_s`: what came lately does not know the new load yet
    outgrown: bool = False  # `is_outgrown` within the rate window: the average does not
    peak: int = 0  # the largest `kept_replicas` of the last `down_interval_s`


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

    Up at once, to what is needed now. Down at most once per `down_interval_s`, and then to the most that was needed since: a
    load that comes back within the interval finds its replicas. To zero after `idle_to_zero_s` without a record, where the minimum
    is 0. Bulk work counts as online work does, within the same maximum. A lag that is not known holds the size. Never raises on
    a policy with 0 ≤ min ≤ max, max ≥ 1. Source: design §7, databricks_surface §5.
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
        return Decision(target, _why_up(seen, policy, floor))
    target = min(max(target, seen.peak), policy.max_replicas, seen.replicas)
    if target < seen.replicas and seen.since_down_s < policy.down_interval_s:
        return Decision(seen.replicas, "waiting to shrink")
    return Decision(target, "drained" if target < seen.replicas else "steady")


def needed_replicas(seen: PoolObservation, policy: ScalePolicy) -> int:
    """What makes a pool grow."""
    return _replicas_for(arrivals(seen, policy), seen, policy)


def kept_replicas(seen: PoolObservation, policy: ScalePolicy) -> int:
    """What keeps a pool from shrinking: a load that has only just come counts as much as one that has lasted."""
    return _replicas_for(max(arrivals(seen, policy), seen.average_per_s, seen.recent_per_s), seen, policy)


def _replicas_for(arrivals_per_s: float, seen: PoolObservation, policy: ScalePolicy) -> int:
    """Little's law: so many lanes are busy as arrivals × evaluation time; what takes a time that is unknown counts nothing.

    Arrivals are to keep `target_utilization` of the lanes busy; with all of them busy a backlog is to be gone within its budget.
    Bulk work arrives as fast as it is taken, so its backlog alone counts.
    """
    if seen.lag is None or seen.bulk_lag is None:
        return 0
    lanes = 0.0
    if (evaluation_s := evaluation_under_load(seen)) is not None:
        busy = arrivals_per_s * evaluation_s
        waiting = max(0, seen.lag - seen.replicas * LANES_PER_REPLICA)  # the others have a lane
        lanes += max(busy / policy.target_utilization, busy + waiting * min(1.0, evaluation_s / policy.drain_budget_s))
    if seen.bulk_evaluation_s is not None:
        lanes += seen.bulk_lag * min(1.0, seen.bulk_evaluation_s / policy.drain_budget_s)
    return ceil(lanes / LANES_PER_REPLICA)


def arrivals(seen: PoolObservation, policy: ScalePolicy) -> float:
    """Requests/s to be ready for: over the rate window or, as long as a new load is not known by that, those of shorter times.

    Where many wait, it is not by chance that more came.
    """
    known = max(seen.arrivals_per_s, seen.average_per_s) if is_crowded(seen) else seen.arrivals_per_s
    if seen.outgrown or is_outgrown(seen, policy):
        known = max(known, seen.lately_per_s)
    if seen.panicked or in_panic(seen, policy):
        known = max(known, seen.recent_per_s)
    return known


def is_outgrown(seen: PoolObservation, policy: ScalePolicy) -> bool:
    """The load has grown beyond the pool, sooner than the average can tell."""
    return in_panic(seen, policy) or is_filled(seen)


def is_filled(seen: PoolObservation) -> bool:
    """What came lately keeps nearly all lanes busy, and more is waiting. A pool at zero has none: it wakes by its backlog."""
    lanes = seen.replicas * LANES_PER_REPLICA
    return lanes > 0 and (seen.lag or 0) > lanes and seen.lately_per_s * (evaluation_under_load(seen) or 0.0) >= FILLED * lanes


def is_crowded(seen: PoolObservation) -> bool:
    """For every lane more than another request waits."""
    return (seen.lag or 0) > CROWDED * LANES_PER_REPLICA * max(1, seen.replicas)


def filling_s(evaluation_s: float | None) -> float:
    """Seconds a pool must have been full for, so that chance alone does not fill one of the right size."""
    return max(FILLING_S, FILLING_EVALUATIONS * (evaluation_s or 0.0))


def in_panic(seen: PoolObservation, policy: ScalePolicy) -> bool:
    """Much more arrives than the pool is sized for, and not just for a moment."""
    evaluation_s = evaluation_under_load(seen) or 0.0
    return seen.recent_per_s * evaluation_s >= PANIC * max(1, seen.replicas) * LANES_PER_REPLICA * policy.target_utilization


def evaluation_under_load(seen: PoolObservation) -> float | None:
    """What a request takes of a lane once the pool is busy: with company it is less."""
    if seen.evaluation_s is None or seen.batched_s is None:
        return seen.evaluation_s
    return min(seen.evaluation_s, seen.batched_s)


def first_replicas(spec: EntitySpec, serving_now: int) -> int:
    """The size a new pool must reach before it counts as ready: what the pools it joins or replaces have now (R12)."""
    return min(spec.max_replicas, max(1, spec.min_replicas, serving_now))


def explain(seen: PoolObservation, policy: ScalePolicy, decision: Decision) -> str:
    """The decision and the numbers it was made by, for people."""
    numbers = [f"lag {seen.lag}" if seen.lag is not None else "lag not known"]
    numbers += [f"{seen.bulk_lag} of bulk work"] if seen.bulk_lag else []
    numbers += [f"{arrivals(seen, policy):.1f} requests/s"]
    numbers += [f"{evaluation_s * 1000:.1f} ms of a lane each"] if (evaluation_s := evaluation_under_load(seen)) is not None else []
    return f"{seen.replicas} → {decision.target} replicas ({decision.reason}): {', '.join(numbers)}"


def _why_up(seen: PoolObservation, policy: ScalePolicy, floor: int) -> str:
    if seen.replicas == 0:
        return WAKING if policy.min_replicas == 0 else "minimum"
    if seen.replicas < floor:
        return "minimum"
    if in_panic(seen, policy):
        return "panic"
    if is_filled(seen):
        return "full"
    if seen.outgrown:
        return "rising"
    return "backlog" if seen.lag or seen.bulk_lag else "arrivals"
