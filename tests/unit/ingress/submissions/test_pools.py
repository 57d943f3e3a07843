"""How much bulk work a pool may be given."""

from typing import Any

import pytest

from services.ingress.submissions.pools import FIRST_WINDOW, room
from services.shared.presence import PoolReport

NOW_MS = 100_000


def report(**seen: Any) -> PoolReport:
    seen = {"ready": 1, "bulk_lag": 0, "bulk_evaluation_s": 0.05, "at_ms": NOW_MS - 1_000} | seen
    return PoolReport(pool_id="p", wanted=1, reason="steady", max_replicas=4, **seen)


@pytest.mark.parametrize(
    ("seen", "appended_since", "expected"),
    [
        pytest.param(report(), 0, 800, id="ten seconds of work for the lanes it has"),
        pytest.param(report(ready=2), 0, 1_600, id="which grow with its replicas"),
        pytest.param(report(ready=0), 0, 800, id="a pool at zero gets what wakes it, and its first replica does"),
        pytest.param(report(bulk_lag=500), 0, 300, id="less what is there"),
        pytest.param(report(bulk_lag=500), 250, 50, id="and what was sent since it was counted"),
        pytest.param(report(bulk_lag=900), 0, 0, id="none when it is full"),
        pytest.param(report(bulk_evaluation_s=30.0), 0, 8, id="slow models get few at a time, and never so few that a lane waits"),
        pytest.param(report(bulk_evaluation_s=None), 0, FIRST_WINDOW, id="a few as long as nobody knows how long one takes"),
        pytest.param(report(bulk_lag=None), 0, 0, id="none while its lag is not known"),
        pytest.param(report(at_ms=NOW_MS - 11_000), 0, 0, id="none on old news"),
        pytest.param(None, 0, 0, id="none without any"),
    ],
)
def test_room(seen: PoolReport | None, appended_since: int, expected: int) -> None:
    assert room(seen, appended_since, NOW_MS) == expected
