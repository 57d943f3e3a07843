"""A pool under a load that moves, without a server: what `decide` makes of its own deeds, look after look."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from random import Random

import pytest

from services.scaler.lag import SAMPLE_EVERY_S, Flow
from services.scaler.peaks import Peaks
from services.scaler.policy import PoolObservation, ScalePolicy, decide, filling_s, in_panic, is_outgrown, kept_replicas
from services.shared.control_events import LANES_PER_REPLICA

TICK_S, START_S = 0.5, 0.5  # the scaler's look; a replica from a warm parent
EVALUATION_S = 0.05
RATE_WINDOW_S, PANIC_WINDOW_S = 60.0, 0.45
POLICY = ScalePolicy(min_replicas=1, max_replicas=16, drain_budget_s=5.0, target_utilization=0.7, down_interval_s=60.0, idle_to_zero_s=10.0)
Rate = Callable[[float], float]


@dataclass(frozen=True)
class Ran:
    """`sizes` are (second, wanted) at each change; `longest_wait_s` of a record that was appended."""

    sizes: Sequence[tuple[float, int]]
    longest_wait_s: float
    left: int

    @property
    def resizes(self) -> int:
        return len(self.sizes) - 1

    def size_at(self, second: float) -> int:
        return [size for at, size in self.sizes if at <= second][-1]


def run(
    rate: Rate, seconds: float, policy: ScalePolicy = POLICY, chance: Random | None = None, replicas: int = 1, callers: float = inf
) -> Ran:
    """`callers` is how many wait for their answers before they ask again: no more than they is ever under way."""
    flow, peaks, shrank_at, appended, lag, longest_s = Flow(0.0), Peaks(), 0.0, 0.0, 0.0, 0.0
    ready_from: deque[float] = deque([0.0] * replicas)
    sizes, panicked_at, outgrown_at = [(0.0, replicas)], float("-inf"), float("-inf")
    now, passed_s = 0.0, TICK_S
    while (now := now + passed_s) < seconds:
        capacity = sum(at <= now for at in ready_from) * LANES_PER_REPLICA / EVALUATION_S
        due = rate(now) * passed_s
        more = due if chance is None else max(0.0, chance.gauss(due, due**0.5))
        more = min(more, callers - lag + min(capacity, callers / EVALUATION_S) * passed_s)
        appended, lag = appended + more, lag + more
        longest_s = max(longest_s, lag / capacity if capacity else longest_s)
        lag = max(min(lag, rate(now) * EVALUATION_S, callers), lag - capacity * passed_s)
        flow.add(now, int(appended), RATE_WINDOW_S)
        seen = PoolObservation(
            lag=int(lag),
            arrivals_per_s=flow.sure_rate(RATE_WINDOW_S),
            average_per_s=flow.rate(),
            recent_per_s=flow.least_rate(PANIC_WINDOW_S),
            lately_per_s=flow.rate_of_last(filling_s(EVALUATION_S)),
            evaluation_s=EVALUATION_S,
            replicas=len(ready_from),
            idle_s=flow.idle_s(now),
            since_down_s=now - shrank_at,
        )
        panicked_at = now if in_panic(seen, policy) else panicked_at
        outgrown_at = now if is_outgrown(seen, policy) else outgrown_at
        wants_closer_look = in_panic(replace(seen, recent_per_s=flow.least_rate(0, stretches=1) * 2), policy)
        passed_s = SAMPLE_EVERY_S if wants_closer_look else TICK_S
        seen = replace(
            seen,
            panicked=now - panicked_at < filling_s(EVALUATION_S),
            outgrown=now - outgrown_at < RATE_WINDOW_S,
            peak=peaks.add(now, kept_replicas(seen, policy), policy.down_interval_s),
        )
        target = decide(seen, policy).target
        if target != len(ready_from):
            shrank_at = now if target < len(ready_from) else shrank_at
            sizes.append((now, target))
            while len(ready_from) > target:
                ready_from.pop()
            ready_from.extend([now + START_S] * (target - len(ready_from)))
    return Ran(sizes, longest_s, int(lag))


def oracle(rate: Rate, seconds: float, policy: ScalePolicy = POLICY) -> int:
    """Resizes of one who knows the rate of each second, and keeps the same pace downwards."""
    size, resizes, down_at = needed(rate(0)), 0, 0.0
    for second in range(int(seconds)):
        need = needed(rate(second))
        if need > size or (need < size and second - down_at >= policy.down_interval_s):
            down_at = second if need < size else down_at
            size, resizes = need, resizes + 1
    return resizes


def needed(per_second: float) -> int:
    return max(1, ceil(per_second * EVALUATION_S / (LANES_PER_REPLICA * POLICY.target_utilization)))


def test_a_tenfold_step_is_followed_within_two_seconds_and_not_overshot() -> None:
    ran = run(lambda at: 200 if 60 <= at < 120 else 20, 400)
    assert ran.size_at(61) == needed(200)
    assert max(size for _, size in ran.sizes) < 1.25 * needed(200)
    assert ran.size_at(119) == needed(200)
    assert ran.sizes[-1][1] == needed(20)
    assert ran.resizes <= 3
    assert ran.longest_wait_s < 4


def test_a_step_that_is_no_panic_is_followed_to_its_end_once_the_pool_is_full() -> None:
    """Else it would stay at what the seconds say that saw its beginning, with all lanes busy, until the minute knows."""
    sizes = []
    for seed in range(20):
        ran = run(lambda at: 180 if at >= 90 else 60, 120, chance=Random(seed), replicas=2)
        assert ran.size_at(89) == 2
        assert ran.size_at(100) == ran.sizes[-1][1]
        sizes.append(ran.size_at(100))
    assert max(sizes) <= needed(180) + 1, "by chance it may look like a panic"
    assert sizes.count(needed(180)) >= 15


@pytest.mark.parametrize("seed", range(5))
def test_chance_arrivals_move_nothing(seed: int) -> None:
    """Sized by its own first minute, a pool keeps that size: neither noise nor the rate between two sizes makes it swing."""
    ran = run(lambda _: 150, 900, chance=Random(seed), replicas=needed(150))
    assert ran.resizes <= 1


@pytest.mark.parametrize("per_second", [50, 160, 165, 215])
def test_a_new_leader_resizes_no_pool_of_the_right_size_in_its_first_minute(per_second: int) -> None:
    """It knows no flow yet, and the average of some seconds is more than the load as often as not."""
    runs = [run(lambda _: per_second, RATE_WINDOW_S, chance=Random(seed), replicas=needed(per_second)) for seed in range(100)]
    assert sum(ran.resizes for ran in runs) == 0


@pytest.mark.parametrize(
    ("before", "after", "within_s"),
    [
        pytest.param(50, 250, 2, id="fivefold, by the panic"),
        pytest.param(160, 240, 6, id="by half, as soon as it is more than chance"),
        pytest.param(50, 75, 10, id="by half, where less comes to tell it by"),
    ],
)
def test_a_new_leader_follows_a_step_at_its_start(before: int, after: int, within_s: float) -> None:
    for seed in range(20):
        ran = run(lambda _: after, 60, chance=Random(seed), replicas=needed(before))
        assert ran.size_at(within_s) > needed(before)
        assert needed(after) <= ran.sizes[-1][1] <= 1.25 * needed(after) + 1


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(lambda at: 20 + 180 * (1 - abs(at / 150 - 1)) if at < 300 else 20, id="ramp up and down over five minutes"),
        pytest.param(lambda at: 20 + 180 * (at % 60 / 60), id="teeth of a minute"),
        pytest.param(lambda at: 200 if at % 40 < 5 else 20, id="five seconds of ten times the load, every 40"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_flapping(rate: Rate, seed: int) -> None:
    ran = run(rate, 600, chance=Random(seed))
    assert ran.resizes <= 1.5 * oracle(rate, 600)
    assert ran.longest_wait_s < 10
    assert ran.left < 50


@pytest.mark.parametrize("callers", [6, 24, 60])
def test_callers_who_wait_for_their_answers_have_their_lanes_in_half_a_minute(callers: int) -> None:
    """They never ask for more than the pool gives, so it must not be enough that it is full, nor take a minute to see it."""
    ran = run(lambda _: 10_000, 120, callers=callers)
    assert ran.size_at(30) * LANES_PER_REPLICA >= callers
    assert max(size for _, size in ran.sizes) <= min(POLICY.max_replicas, ceil(callers / LANES_PER_REPLICA / POLICY.target_utilization) + 1)


@pytest.mark.parametrize("offset_s", [-0.1, 0.0, 0.1])
def test_the_idle_threshold_loses_nothing(offset_s: float) -> None:
    """One record at a time, as the pool leaves: each wakes it again, and none is left."""
    period_s = POLICY.idle_to_zero_s + offset_s
    ran = run(lambda at: 1 / TICK_S if at % period_s < TICK_S else 0, 300, replace(POLICY, min_replicas=0), replicas=0)
    assert ran.left == 0
    assert {size for _, size in ran.sizes} <= {0, 1}
