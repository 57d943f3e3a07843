"""What the load tools say, as figures."""

import json

import pytest

from bench.load import Load, parse_oha, parse_wrk

SAID = '{"requests":1000,"duration_us":2000000,"p50_us":1500,"p90_us":2500,"p99_us":9000,"max_us":20000,"bad_status":%d,"broken":%d}'


@pytest.mark.parametrize(
    ("bad_status", "broken", "per_second"),
    [
        pytest.param(0, 0, 500.0, id="all answers are good"),
        pytest.param(90, 10, 450.0, id="neither errors nor broken connections count as answers"),
        pytest.param(1000, 50, 0.0, id="never below zero"),
    ],
)
def test_wrk(bad_status: int, broken: int, per_second: float) -> None:
    found = parse_wrk(f"Running 2s test\n  Latency 1ms\nwrk-summary {SAID % (bad_status, broken)}\n", 0.5)
    assert found == Load(1000, 2.0, 1.5, 2.5, 9.0, 20.0, bad_status + broken, 0.5)
    assert found.per_second == per_second


def test_wrk_without_a_summary_is_an_error() -> None:
    with pytest.raises(ValueError, match="no summary"):
        parse_wrk("unable to connect")


@pytest.mark.parametrize(
    ("statuses", "errors", "requests", "failed"),
    [
        pytest.param({"200": 100}, {}, 100, 0, id="all answers are good"),
        pytest.param({"200": 90, "429": 10}, {}, 100, 10, id="refusals are failures"),
        pytest.param(
            {"200": 90}, {"connection refused": 3, "aborted due to deadline": 7}, 93, 3, id="what was under way at the end is neither"
        ),
    ],
)
def test_oha(statuses: dict[str, int], errors: dict[str, int], requests: int, failed: int) -> None:
    said = {
        "summary": {"total": 2.0, "slowest": 0.05},
        "latencyPercentiles": {"p50": 0.002, "p90": 0.004, "p99": 0.03},
        "statusCodeDistribution": statuses,
        "errorDistribution": errors,
    }
    assert parse_oha(json.dumps(said)) == Load(requests, 2.0, 2.0, 4.0, 30.0, 50.0, failed)
