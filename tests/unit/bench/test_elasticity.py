"""What the elasticity runs make of what they saw."""

import numpy as np
import pytest

from bench.arrivals import Answers, due_times
from bench.elasticity import Lengths, back_to, judge_step, oracle_steps, replicas_for
from bench.elasticity_report import Finding
from bench.pool_watch import Size, Sizes, replica_seconds

LENGTHS = Lengths(up_at_s=10.0, down_at_s=30.0, step_s=40.0)


def answers(*slow: tuple[float, float], took_s: float = 0.05, failed: int = 0) -> Answers:
    """Ten a second for forty seconds; those of the intervals in `slow` take a second."""
    due_s = due_times(lambda _: 10.0, 40)
    took = np.full(len(due_s), took_s)
    for first, last in slow:
        took[(due_s >= first) & (due_s < last)] = 1.0
    status = np.full(len(due_s), 200)
    status[:failed] = 503
    return Answers(due_s, took, status)


def sizes(*steps: tuple[float, int, int]) -> Sizes:
    return Sizes(100.0, [Size(100.0 + at, wanted, ready) for at, wanted, ready in steps])


def judged(needed: int, asked: Answers, seen: Sizes) -> dict[str, bool | None]:
    found: list[Finding] = []
    judge_step("step", LENGTHS, needed, asked, seen, found.append)
    return {finding.what.removeprefix("step, "): finding.holds for finding in found}


FOLLOWED = sizes((0, 1, 1), (10.5, 4, 1), (11.5, 4, 4), (31, 3, 4), (51, 2, 2))
GOOD = {"errors": True, "replicas follow": True, "overshoot": True, "p99 is back": True, "steps down": True}


@pytest.mark.parametrize(
    ("asked", "seen", "missed"),
    [
        pytest.param(answers((10, 13)), FOLLOWED, set(), id="a pool that follows"),
        pytest.param(answers(failed=1), FOLLOWED, {"errors"}, id="one answer that failed"),
        pytest.param(answers(), sizes((0, 1, 1), (10.5, 4, 1), (12.5, 4, 4), (31, 3, 3)), {"replicas follow"}, id="ready too late"),
        pytest.param(answers(), sizes((0, 1, 1), (11, 5, 5), (31, 4, 4)), {"overshoot"}, id="one of four too many"),
        pytest.param(answers((10, 22)), FOLLOWED, {"p99 is back"}, id="slow for longer than ten seconds"),
        pytest.param(answers((10, 12), (28, 29)), FOLLOWED, {"p99 is back"}, id="slow once more in the end"),
        pytest.param(answers(), sizes((0, 1, 1), (11, 4, 4), (31, 3, 3), (35, 2, 2)), {"steps down"}, id="two steps down in a row"),
        pytest.param(answers(), sizes((0, 1, 1), (11, 4, 4)), {"steps down"}, id="no step down"),
    ],
)
def test_a_step_is_judged(asked: Answers, seen: Sizes, missed: set[str]) -> None:
    assert judged(4, asked, seen) == {what: what not in missed for what in GOOD}


def test_a_model_that_needs_one_replica_for_both_rates_has_none_to_take_away() -> None:
    assert judged(1, answers(), sizes((0, 1, 1), (10.1, 1, 1))) == {what: True for what in GOOD if what != "steps down"}


def test_p99_that_is_never_back_is_never() -> None:
    assert np.isnan(back_to(answers((10, 30)), 0.05, 10.0, 30.0))


def test_the_oracle_grows_at_once_and_shrinks_at_the_set_pace() -> None:
    assert oracle_steps([1, 3, 3, 2, 1, *[1] * 40]) == [(0.0, 1), (1.0, 3), (3.0, 2), (23.0, 1)]


def test_replica_seconds_add_up() -> None:
    assert replica_seconds([(0.0, 1), (10.0, 4), (20.0, 2)], 30.0) == 10 + 40 + 20


def test_requests_are_due_by_the_integral_of_the_rate() -> None:
    due_s = due_times(lambda at: 10.0 if at < 1 else 100.0, 2)
    assert len(due_s) == pytest.approx(110, abs=1)
    assert np.sum(due_s < 1) == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("per_second", "evaluation_s", "replicas"),
    [
        pytest.param(20, 0.05, 1, id="one lane of four"),
        pytest.param(200, 0.05, 4, id="ten lanes at seven tenths"),
        pytest.param(0, 0.05, 1, id="never none"),
    ],
)
def test_what_one_who_knew_the_rate_would_take(per_second: float, evaluation_s: float, replicas: int) -> None:
    assert replicas_for(per_second, evaluation_s) == replicas
