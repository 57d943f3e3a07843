"""What bulk work costs and gets, from what was measured."""

from dataclasses import replace

import pytest

from bench.bulk import Batch, Busy, Found
from bench.load import Load

ALONE = Load(requests=2_000, duration_s=20.0, p50_ms=3.0, p90_ms=5.0, p99_ms=10.0, max_ms=20.0, failed=0)
FOUND = Found(
    before=ALONE,
    beside=replace(ALONE, p99_ms=12.0),
    beside_idle=replace(ALONE, p99_ms=11.0),
    after=ALONE,
    alone=Batch(rows=1_000_000, failed=0, scoring_s=10.0, whole_s=15.0),
    shared=Batch(rows=1_000_000, failed=0, scoring_s=25.0, whole_s=30.0),
    online_busy=Busy({"ingress": 0.3, "scorer host": 0.1}, tool=0.1),
    bulk_busy=Busy({"model worker": 2.0}),
    both_busy=Busy({}),
    local_per_second=500_000.0,
    cores=2,
    slowdown=1.0,
)


@pytest.mark.parametrize(
    ("found", "ratio"),
    [
        pytest.param(FOUND, 1.2, id="against what it was before and after"),
        pytest.param(replace(FOUND, after=replace(ALONE, p99_ms=14.0)), 1.0, id="a machine that became slower is no cost of bulk work"),
    ],
)
def test_cost_online(found: Found, ratio: float) -> None:
    assert found.p99_ratio(found.beside) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        pytest.param(FOUND, 0.4 / 0.75, id="of the cores that online requests leave"),
        pytest.param(replace(FOUND, online_busy=Busy({})), 0.4, id="of all, where those cost nothing"),
        pytest.param(replace(FOUND, shared=replace(FOUND.shared, scoring_s=10.0 / 0.75)), 1.0, id="all of what is left"),
        pytest.param(
            replace(FOUND, bulk_busy=Busy({"model worker": 1.0})), 0.4, id="of what it has alone, where they leave more cores than it uses"
        ),
    ],
)
def test_share_of_what_is_left(found: Found, share: float) -> None:
    assert found.share_of_rest == pytest.approx(share)


@pytest.mark.parametrize(
    ("scoring_s", "lasts"),
    [
        pytest.param(20.0, True, id="as long as the online load"),
        pytest.param(19.0, False, id="not to its end: part of what counts as beside was alone"),
    ],
)
def test_batch_lasts_as_long_as_the_load_beside_it(scoring_s: float, lasts: bool) -> None:
    assert replace(FOUND, shared=replace(FOUND.shared, scoring_s=scoring_s)).batch_lasts is lasts
