"""How many replicas: the table, and what holds whatever is seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scaler.policy import Decision, PoolObservation, ScalePolicy, decide, explain, first_replicas, kept_replicas, needed_replicas
from services.shared.control_events import EntitySpec

POLICY = ScalePolicy(
    min_replicas=1, max_replicas=6, drain_budget_s=5.0, target_utilization=1.0, down_interval_s=300.0, idle_to_zero_s=1800.0
)
TO_ZERO = replace(POLICY, min_replicas=0)
QUIET = PoolObservation(lag=0, arrivals_per_s=0.0, evaluation_s=0.1, replicas=1, idle_s=10.0, since_down_s=1000.0)
ASLEEP = replace(QUIET, replicas=0, idle_s=5000.0)
BUSY = replace(QUIET, lag=200, arrivals_per_s=60.0, replicas=2)  # 60 × 0.1 s busy, 192 × 0.1 s waiting for 5 s: 10 lanes of 4
ROOMY = replace(POLICY, target_utilization=0.7, max_replicas=16)
FILLED = replace(QUIET, arrivals_per_s=10.0, lately_per_s=80.0, lag=24, replicas=2, peak=2)  # 24 callers in turn on eight lanes
YOUNG = replace(QUIET, arrivals_per_s=10.0, average_per_s=60.0)  # seen for some seconds: 60/s, of which 10 are no chance
STEPPED = replace(QUIET, arrivals_per_s=50.0, recent_per_s=400.0, lag=40)  # 40 lanes at 400/s, where one replica has 4


@pytest.mark.parametrize(
    ("seen", "policy", "decision"),
    [
        pytest.param(QUIET, POLICY, Decision(1, "steady"), id="nothing to do keeps the minimum"),
        pytest.param(BUSY, POLICY, Decision(3, "backlog"), id="a backlog grows the pool at once"),
        pytest.param(
            replace(QUIET, lag=4, arrivals_per_s=39.0, replicas=1),
            replace(POLICY, target_utilization=0.7),
            Decision(2, "backlog"),
            id="a pool that is full grows before a backlog builds up",
        ),
        pytest.param(replace(BUSY, since_down_s=0.0), POLICY, Decision(3, "backlog"), id="a recent step down does not delay a step up"),
        pytest.param(replace(BUSY, lag=9999), POLICY, Decision(6, "backlog"), id="never more than the maximum"),
        pytest.param(replace(QUIET, replicas=0), POLICY, Decision(1, "minimum"), id="an empty pool that may not sleep gets its minimum"),
        pytest.param(STEPPED, ROOMY, Decision(15, "panic"), id="a load that has multiplied is followed at once"),
        pytest.param(
            replace(STEPPED, recent_per_s=150.0, replicas=3, panicked=True, outgrown=True, lag=4),
            ROOMY,
            Decision(6, "rising"),
            id="and to its end",
        ),
        pytest.param(
            replace(STEPPED, recent_per_s=150.0, lately_per_s=190.0, replicas=3, outgrown=True, lag=4),
            ROOMY,
            Decision(7, "rising"),
            id="by its last seconds, where its least moment says less",
        ),
        pytest.param(
            replace(STEPPED, recent_per_s=55.0, lag=4), ROOMY, Decision(2, "backlog"), id="one that has grown a little by its average"
        ),
        pytest.param(FILLED, ROOMY, Decision(3, "full"), id="a pool that is full grows by what it scores, before the minute knows"),
        pytest.param(replace(FILLED, replicas=0), ROOMY, Decision(1, "minimum"), id="one at zero has no lanes to fill"),
        pytest.param(replace(FILLED, lag=8), ROOMY, Decision(2, "steady"), id="unless nothing waits"),
        pytest.param(replace(FILLED, lately_per_s=70.0), ROOMY, Decision(2, "steady"), id="or some of its lanes are free"),
        pytest.param(replace(YOUNG, lag=8), ROOMY, Decision(1, "steady"), id="a young average may be chance"),
        pytest.param(replace(YOUNG, lag=9), ROOMY, Decision(3, "backlog"), id="but not where many wait"),
        pytest.param(replace(YOUNG, lag=8, replicas=3, peak=3), ROOMY, Decision(3, "steady"), id="and it keeps what it may need"),
        pytest.param(
            replace(STEPPED, lag=4, arrivals_per_s=0.0, evaluation_s=60.0, recent_per_s=0.0),
            POLICY,
            Decision(1, "steady"),
            id="long evaluations that all have a lane are no backlog",
        ),
        pytest.param(
            replace(QUIET, arrivals_per_s=400.0, batched_s=0.005),
            ROOMY,
            Decision(1, "steady"),
            id="a model that gains by company needs less",
        ),
        pytest.param(
            replace(QUIET, arrivals_per_s=400.0, lately_per_s=400.0, batched_s=0.005, lag=64),
            ROOMY,
            Decision(1, "steady"),
            id="also while some wait for the evaluation that they will share",
        ),
        pytest.param(replace(QUIET, replicas=4, peak=3), POLICY, Decision(3, "drained"), id="down to what was needed of late"),
        pytest.param(replace(QUIET, replicas=2, peak=3), POLICY, Decision(2, "steady"), id="a peak that is over lets no pool grow"),
        pytest.param(replace(QUIET, replicas=4), POLICY, Decision(1, "drained"), id="what is not needed goes"),
        pytest.param(
            replace(QUIET, replicas=4, since_down_s=299.0), POLICY, Decision(4, "waiting to shrink"), id="but not before the interval"
        ),
        pytest.param(replace(QUIET, replicas=4, since_down_s=300.0), POLICY, Decision(1, "drained"), id="the interval itself is enough"),
        pytest.param(replace(BUSY, lag=None), POLICY, Decision(2, "lag unknown"), id="an unknown lag holds the size"),
        pytest.param(replace(ASLEEP, lag=None, nudged=True), TO_ZERO, Decision(0, "lag unknown"), id="an unknown lag holds zero too"),
        pytest.param(
            replace(BUSY, evaluation_s=None, since_down_s=1.0),
            POLICY,
            Decision(2, "waiting to shrink"),
            id="no growth without an evaluation time",
        ),
        pytest.param(replace(QUIET, idle_s=1800.0), TO_ZERO, Decision(0, "idle"), id="idle long enough goes to zero"),
        pytest.param(replace(QUIET, idle_s=1799.0), TO_ZERO, Decision(1, "steady"), id="idle not long enough stays"),
        pytest.param(replace(QUIET, idle_s=9999.0), POLICY, Decision(1, "steady"), id="a pool that may not sleep does not"),
        pytest.param(replace(QUIET, idle_s=9999.0, lag=1), TO_ZERO, Decision(1, "steady"), id="a record that waits keeps it awake"),
        pytest.param(replace(QUIET, idle_s=9999.0, nudged=True), TO_ZERO, Decision(1, "steady"), id="a nudge keeps it awake"),
        pytest.param(ASLEEP, TO_ZERO, Decision(0, "idle"), id="asleep stays asleep"),
        pytest.param(replace(ASLEEP, lag=1), TO_ZERO, Decision(1, "waking"), id="a record wakes it"),
        pytest.param(replace(ASLEEP, nudged=True), TO_ZERO, Decision(1, "waking"), id="a nudge wakes it"),
        pytest.param(replace(ASLEEP, lag=400), TO_ZERO, Decision(2, "waking"), id="a burst wakes as many as it needs"),
        pytest.param(replace(ASLEEP, bulk_lag=1), TO_ZERO, Decision(1, "waking"), id="bulk work wakes it as well"),
        pytest.param(replace(QUIET, idle_s=9999.0, bulk_lag=1), TO_ZERO, Decision(1, "steady"), id="and keeps it awake"),
        pytest.param(
            replace(BUSY, bulk_lag=200, bulk_evaluation_s=0.2), POLICY, Decision(5, "backlog"), id="bulk work asks for lanes of its own"
        ),
        pytest.param(replace(QUIET, bulk_lag=9999, bulk_evaluation_s=1.0), POLICY, Decision(6, "backlog"), id="within the maximum"),
        pytest.param(replace(BUSY, bulk_lag=None), POLICY, Decision(2, "lag unknown"), id="an unknown bulk lag holds the size too"),
        pytest.param(replace(QUIET, replicas=3), replace(POLICY, min_replicas=2), Decision(2, "drained"), id="never below the minimum"),
    ],
)
def test_decide(seen: PoolObservation, policy: ScalePolicy, decision: Decision) -> None:
    assert decide(seen, policy) == decision


SEEN = st.builds(
    PoolObservation,
    lag=st.none() | st.integers(0, 10**7),
    arrivals_per_s=st.floats(0, 10**6),
    evaluation_s=st.none() | st.floats(0, 120),
    replicas=st.integers(0, 20),
    idle_s=st.floats(0, 10**7),
    since_down_s=st.floats(0, 10**7) | st.just(float("inf")),
    recent_per_s=st.floats(0, 10**6),
    lately_per_s=st.floats(0, 10**6),
    average_per_s=st.floats(0, 10**6),
    batched_s=st.none() | st.floats(0, 120),
    panicked=st.booleans(),
    outgrown=st.booleans(),
    peak=st.integers(0, 20),
    nudged=st.booleans(),
    bulk_lag=st.none() | st.integers(0, 10**7),
    bulk_evaluation_s=st.none() | st.floats(0, 120),
)
POLICIES = st.tuples(st.integers(0, 16), st.integers(1, 16)).flatmap(
    lambda bounds: st.builds(
        ScalePolicy,
        min_replicas=st.just(min(bounds)),
        max_replicas=st.just(max(bounds)),
        drain_budget_s=st.floats(0.1, 100),
        target_utilization=st.floats(0.1, 1),
        down_interval_s=st.floats(0, 1000),
        idle_to_zero_s=st.floats(0.1, 10_000),
    )
)


@given(SEEN, POLICIES)
def test_a_size_is_held_or_within_the_bounds(seen: PoolObservation, policy: ScalePolicy) -> None:
    target = decide(seen, policy).target
    assert target == seen.replicas or policy.min_replicas <= target <= policy.max_replicas


@given(SEEN, POLICIES)
def test_nothing_shrinks_before_the_interval_but_an_idle_pool_to_zero(seen: PoolObservation, policy: ScalePolicy) -> None:
    target = decide(seen, policy).target
    if target < seen.replicas and target > 0:
        assert seen.since_down_s >= policy.down_interval_s


@given(SEEN, POLICIES)
def test_zero_needs_permission_and_quiet(seen: PoolObservation, policy: ScalePolicy) -> None:
    if decide(seen, policy).target == 0 < seen.replicas:
        assert policy.min_replicas == 0
        assert seen.lag == 0
        assert not seen.nudged
        assert seen.idle_s >= policy.idle_to_zero_s


@given(SEEN, POLICIES)
def test_an_unknown_lag_holds_whatever_else_is_seen(seen: PoolObservation, policy: ScalePolicy) -> None:
    assert decide(replace(seen, lag=None), policy).target == seen.replicas


@given(SEEN, POLICIES)
def test_what_was_decided_is_decided_again_when_nothing_else_changes(seen: PoolObservation, policy: ScalePolicy) -> None:
    """A pool does not swing: once resized, and with the step down or the need noted, the same look asks for the same size."""
    seen = replace(seen, peak=max(seen.peak, kept_replicas(seen, policy)))  # as it is noted at each look
    target = decide(seen, policy).target
    since_down_s = 0.0 if target < seen.replicas else seen.since_down_s
    assert decide(replace(seen, replicas=target, since_down_s=since_down_s, peak=max(seen.peak, target)), policy).target == target


@given(SEEN, POLICIES, st.integers(0, 10**6))
def test_more_backlog_never_means_fewer_replicas(seen: PoolObservation, policy: ScalePolicy, more: int) -> None:
    if seen.lag is not None:
        assert decide(replace(seen, lag=seen.lag + more), policy).target >= decide(seen, policy).target


@pytest.mark.parametrize(
    ("seen", "needed"),
    [
        pytest.param(BUSY, 3, id="arrivals and backlog together"),
        pytest.param(replace(BUSY, lag=0, arrivals_per_s=40.0), 1, id="one replica has four lanes"),
        pytest.param(replace(BUSY, lag=0, arrivals_per_s=40.1), 2, id="a little more needs another"),
        pytest.param(replace(BUSY, evaluation_s=None), 0, id="unknown without an evaluation time"),
    ],
)
def test_needed_replicas(seen: PoolObservation, needed: int) -> None:
    assert needed_replicas(seen, POLICY) == needed


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        pytest.param(
            FILLED, "2 → 3 replicas (full): lag 24, 80.0 requests/s, 100.0 ms of a lane each", id="what keeps the lanes of a full pool busy"
        ),
        pytest.param(
            replace(STEPPED, recent_per_s=150.0, lately_per_s=190.0, replicas=3, outgrown=True, lag=4),
            "3 → 7 replicas (rising): lag 4, 190.0 requests/s, 100.0 ms of a lane each",
            id="the last seconds, where they made the panic larger",
        ),
        pytest.param(
            replace(QUIET, arrivals_per_s=900.0, batched_s=0.01, lag=4),
            "1 → 4 replicas (backlog): lag 4, 900.0 requests/s, 10.0 ms of a lane each",
            id="the evaluation time of requests with company",
        ),
        pytest.param(
            replace(BUSY, recent_per_s=99.0),
            "2 → 3 replicas (backlog): lag 200, 60.0 requests/s, 100.0 ms of a lane each",
            id="not those of a moment that decided nothing",
        ),
    ],
)
def test_what_is_told_of_a_decision_is_what_made_it(seen: PoolObservation, told: str) -> None:
    assert explain(seen, ROOMY, decide(seen, ROOMY)) == told


def entity(**size: object) -> EntitySpec:
    return EntitySpec.model_validate({"name": "a", "model_name": "m", "model_version": "1", **size})


@pytest.mark.parametrize(
    ("spec", "serving_now", "size"),
    [
        pytest.param(entity(), 0, 1, id="the first pool of an endpoint starts with one"),
        pytest.param(entity(scale_to_zero_enabled=True), 0, 1, id="also where it may sleep: it must be seen to work"),
        pytest.param(entity(workload_size="Medium"), 0, 2, id="its minimum"),
        pytest.param(entity(workload_size="Medium"), 3, 3, id="what the pool it replaces has now"),
        pytest.param(entity(workload_size="Medium"), 9, 4, id="at most its own maximum"),
    ],
)
def test_first_replicas(spec: EntitySpec, serving_now: int, size: int) -> None:
    assert first_replicas(spec, serving_now) == size


@pytest.mark.parametrize(
    ("spec", "bounds"),
    [
        pytest.param(entity(), (1, 1), id="no size is Small"),
        pytest.param(entity(workload_size="Medium"), (2, 4), id="Medium is 8 to 16 at once"),
        pytest.param(entity(workload_size="Large"), (4, 16), id="Large is 16 to 64 at once"),
        pytest.param(entity(workload_size="Large", scale_to_zero_enabled=True), (0, 16), id="scale to zero has no minimum"),
        pytest.param(entity(min_provisioned_concurrency=8, max_provisioned_concurrency=12), (2, 3), id="bounds of its own"),
        pytest.param(entity(max_provisioned_concurrency=12), (1, 3), id="only a maximum"),
    ],
)
def test_sizes_in_replicas(spec: EntitySpec, bounds: tuple[int, int]) -> None:
    assert (spec.min_replicas, spec.max_replicas) == bounds
