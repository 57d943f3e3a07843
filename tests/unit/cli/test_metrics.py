from io import StringIO

import pytest
from rich.console import Console

from services.cli.metrics import Sample, metrics_table, parse_samples, quantile
from services.ingress.exposition import endpoint_metrics
from services.shared.tallies import BOUNDS_MS, BUCKETS, LATENCY, STATUS, SUM_US, Tally
from tests.unit.shared.control_log import config, created, fold, ready

INF = float("inf")


def test_samples_are_read_with_and_without_labels_and_times() -> None:
    text = '# TYPE a gauge\na 1\nb{x="1",y="a\\"}b"} 2.5 1700000000000\nno sample here\n'
    assert list(parse_samples(text)) == [Sample("a", {}, 1), Sample("b", {"x": "1", "y": 'a\\"}b'}, 2.5)]


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        pytest.param([(10, 0), (20, 4), (INF, 4)], 0.5, 15.0, id="evenly within a bucket"),
        pytest.param([(10, 5), (20, 10), (INF, 10)], 0.5, 10.0, id="at a bound"),
        pytest.param([(10, 5), (20, 5), (INF, 10)], 0.99, 20, id="beyond the last bound it is that bound"),
        pytest.param([(10, 0), (INF, 0)], 0.5, None, id="nothing seen"),
        pytest.param([], 0.5, None, id="no histogram"),
    ],
)
def test_a_quantile(buckets: list[tuple[float, float]], share: float, value: float | None) -> None:
    assert quantile(buckets, share) == value


def test_each_served_entity_is_a_line() -> None:
    spent = {("a", LATENCY, BUCKETS[0]): 8, ("a", LATENCY, SUM_US): 8_000, ("a", STATUS, "2xx"): 8}
    text = endpoint_metrics(
        fold(created(config("1", "2")), ready("a"), ready("b")).endpoint("churn"), Tally(spent, {("a", STATUS, "4xx"): 2}), {}, 7
    )
    console = Console(file=StringIO(), width=80)
    console.print(metrics_table(list(parse_samples(text))))
    assert isinstance(console.file, StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    half = f"{BOUNDS_MS[0] / 2:.0f}"
    assert lines[2][:6] == ["a", "0", "2", "2", "0", half]
    assert lines[3] == ["b", "0", "0", "0", "0"]
