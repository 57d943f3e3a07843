"""The runs of `python -m bench elasticity`, short: nothing is lost and nothing flaps. How quick it is, the bench tells."""

from collections.abc import Iterator

import pytest

from bench.elasticity import Bench, Lengths, run_parts, waiting_model
from bench.elasticity_report import Finding

SHORT = Lengths(
    wakes=1,
    rest_s=3.0,
    ramp_s=24.0,
    tooth_s=12.0,
    calm_s=5.0,
    up_at_s=5.0,
    down_at_s=13.0,
    step_s=16.0,
    cycles=5,
    fault_at_s=3.0,
    followed_s=12.0,
    stopped_s=12.0,  # longer than its session: another would lead
    updates=1,
)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with waiting_model(SHORT) as bench:
        yield bench


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("wake", id="from zero, one by one and two hundred at once"),
        pytest.param("ramp", id="up and down slowly, and in teeth"),
        pytest.param("step", id="tenfold at once"),
        pytest.param("idle", id="whenever the pool is about to leave"),
        pytest.param("faults", id="with the scaler dead, the scaler stopped, and no lag to be read"),
        pytest.param("deploy", id="to new versions"),
    ],
)
def test_a_pool_follows_its_load(bench: Bench, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    findings: list[Finding] = []
    run_parts(bench, [part], findings.append)
    with capsys.disabled():
        for finding in findings:
            print(f"\n  {finding.what}: {finding.measured}", end="")
    assert findings
    assert [finding for finding in findings if finding.holds is False and not finding.of_speed] == []
