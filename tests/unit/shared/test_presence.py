"""What is made of the reports processes write about themselves."""

import pytest

from services.shared.presence import IngressReport, PoolReport, in_flight_elsewhere

POOL = PoolReport(pool_id="p", wanted=2, ready=2, reason="", lag=100, evaluation_s=0.1, max_replicas=4, at_ms=1_000)  # scores 80/s now


@pytest.mark.parametrize(
    ("change", "at_ms", "left"),
    [
        pytest.param({}, 1_000, 100, id="at the moment of the report"),
        pytest.param({}, 1_500, 60, id="less by what its ready replicas score meanwhile"),
        pytest.param({}, 9_000, 0, id="never less than nothing"),
        pytest.param({}, 500, 100, id="a clock behind the scaler's makes it no longer"),
        pytest.param({"ready": 0}, 9_000, 100, id="nobody is there to score"),
        pytest.param({"evaluation_s": None}, 9_000, 100, id="how fast it is scored is not known"),
        pytest.param({"lag": None}, 1_000, 0, id="the lag is not known"),
    ],
)
def test_what_is_left_of_the_lag(change: dict[str, object], at_ms: int, left: int) -> None:
    assert POOL.model_copy(update=change).lag_left(at_ms) == left


def test_what_waits_elsewhere_is_summed_over_the_others() -> None:
    reports = [IngressReport(ingress_id=i, routed_from=1, in_flight={"p": n}, at_ms=1) for i, n in (("me", 5), ("a", 2), ("b", 3))]
    elsewhere = in_flight_elsewhere([*reports, IngressReport(ingress_id="c", routed_from=1, in_flight={"q": 1}, at_ms=1)], "me")
    assert (elsewhere["p"], elsewhere["q"], elsewhere["none"]) == (5, 1, 0)
