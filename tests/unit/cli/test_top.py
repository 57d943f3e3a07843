"""What `penstock top` makes of two readings."""

from io import StringIO

import pytest
from rich.console import Console

from services.cli.metrics import parse_samples
from services.cli.top import Line, Reading, lines_between, view

A = 'endpoint_name="churn",served_entity="a"'


def reading(at_s: float, text: str) -> Reading:
    return Reading(at_s, list(parse_samples(text)))


def answered(ok: int, failed: int = 0) -> str:
    return f'penstock_requests_total{{{A},status="2xx"}} {ok}\npenstock_requests_total{{{A},status="5xx"}} {failed}\n'


POOL = f"""
penstock_pool_replicas_wanted{{{A}}} 3
penstock_pool_replicas_ready{{{A}}} 1
penstock_pool_lag_records{{{A}}} 7
penstock_pool_requests_in_flight{{{A}}} 9
penstock_pool_wake_ms_bucket{{{A},le="+Inf"}} 2
penstock_pool_wake_ms_count{{{A}}} 2
penstock_pool_decision{{{A},reason="backlog"}} 1
"""


@pytest.mark.parametrize(
    ("before", "now", "per_s", "failed_per_s"),
    [
        pytest.param(answered(100), answered(150), 10.0, 0.0, id="what was answered between them, each second"),
        pytest.param(answered(100, 5), answered(100, 15), 2.0, 2.0, id="failures count as answers, too"),
        pytest.param(answered(100), answered(20), 4.0, 0.0, id="a counter that began anew counts from zero"),
        pytest.param("", answered(50), 10.0, 0.0, id="an entity that was not there before"),
    ],
)
def test_rates(before: str, now: str, per_s: float, failed_per_s: float) -> None:
    [line] = lines_between(reading(10, before), reading(15, now))
    assert (line.per_s, line.failed_per_s) == (per_s, failed_per_s)


def test_times_are_of_what_came_between_alone() -> None:
    def duration(slow: int, quick: int) -> str:
        below = {"5": quick, "10": quick, "+Inf": quick + slow}
        return "".join(f'penstock_request_duration_ms_bucket{{{A},le="{bound}"}} {count}\n' for bound, count in below.items())

    [line] = lines_between(reading(0, duration(slow=1000, quick=0)), reading(5, duration(slow=1000, quick=100)))
    assert (line.p50_ms, line.p99_ms) == (2.5, 4.95)


def test_the_pool_is_as_it_is_now_and_says_why() -> None:
    [line] = lines_between(reading(0, answered(0)), reading(5, answered(0) + POOL))
    assert line == Line("churn", "a", 0.0, 0.0, None, None, in_flight=9, lag=7, ready=1, wanted=3, wakes=2, reason="backlog")


def test_the_busiest_come_first() -> None:
    quiet = 'penstock_requests_total{endpoint_name="abc",served_entity="x",status="2xx"} 0\n'
    assert [line.endpoint for line in lines_between(reading(0, ""), reading(5, quiet + answered(5)))] == ["churn", "abc"]


@pytest.mark.parametrize(
    ("now", "shown"),
    [
        pytest.param(answered(50) + POOL, "churn a 10 0.0 9 7 1 → 3 2 backlog", id="where it is and where it goes"),
        pytest.param(
            'penstock_requests_total{endpoint_name="churn",status="4xx"} 5\n',
            "churn (refused before one was chosen) 1.0 1.0",
            id="what was refused before an entity was chosen",
        ),
    ],
)
def test_a_line_on_the_screen(now: str, shown: str) -> None:
    screen = StringIO()
    Console(file=screen, width=200).print(view(reading(0, ""), reading(5, now)))
    assert screen.getvalue().splitlines()[0].startswith("1 endpoint · ")
    assert " ".join(screen.getvalue().splitlines()[-1].split()) == shown


def test_without_endpoints_it_says_how_one_is_made() -> None:
    screen = StringIO()
    Console(file=screen, width=200).print(view(reading(0, ""), reading(5, "penstock_ingress_processes 1\n")))
    assert "penstock deploy" in screen.getvalue()
