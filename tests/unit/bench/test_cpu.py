"""The arithmetic of CPU time per hop."""

import pytest

from bench.cpu import CpuTimes, HopCost, cores_needed, hop_costs, per_request_us


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({("kafka", 1): 5.0}, {("kafka", 1): 7.5}, HopCost("kafka", 2.5, 1), id="only what was used meanwhile"),
        pytest.param({}, {("kafka", 1): 1.5}, HopCost("kafka", 1.5, 1), id="a process that began meanwhile counts whole"),
        pytest.param({("kafka", 1): 5.0}, {}, HopCost("kafka", 0.0, 0), id="one that ended does not count"),
        pytest.param(
            {("kafka", 1): 1.0, ("kafka", 2): 2.0},
            {("kafka", 1): 2.0, ("kafka", 2): 4.0, ("redis", 3): 9.0},
            HopCost("kafka", 3.0, 2),
            id="processes of one hop are added, those of another not",
        ),
    ],
)
def test_hop_costs(before: CpuTimes, after: CpuTimes, expected: HopCost) -> None:
    assert next(cost for cost in hop_costs(before, after) if cost.hop == "kafka") == expected


@pytest.mark.parametrize(
    ("cpu_s", "requests", "us", "cores"),
    [
        pytest.param(2.0, 10_000, 200.0, 5.0, id="200 µs a request are 5 cores at 25,000 a second"),
        pytest.param(2.0, 0, 0.0, 0.0, id="no request, no figure"),
    ],
)
def test_per_request(cpu_s: float, requests: int, us: float, cores: float) -> None:
    assert (per_request_us(cpu_s, requests), cores_needed(cpu_s, requests, 25_000)) == pytest.approx((us, cores))
