import pytest

from services.cli.plan import failures_in_a_row, needs_of, restart_pause_s, stop_waves


@pytest.mark.parametrize(
    ("failures", "pause_s"),
    [
        pytest.param(1, 0.2, id="the first death in a row waits the first pause"),
        pytest.param(2, 0.4, id="every further one doubles it"),
        pytest.param(6, 6.4, id="up to the last doubling below the longest"),
        pytest.param(7, 10.0, id="never longer than ten seconds"),
        pytest.param(5_000, 10.0, id="however often it died"),
    ],
)
def test_restart_pause(failures: int, pause_s: float) -> None:
    assert restart_pause_s(failures) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("before", "well_s", "after"),
    [
        pytest.param(0, 0.1, 1, id="a first death counts one"),
        pytest.param(3, 29.9, 4, id="a death within thirty seconds adds to the row"),
        pytest.param(3, 30.0, 1, id="a process that was well for thirty seconds had recovered"),
    ],
)
def test_failures_in_a_row(before: int, well_s: float, after: int) -> None:
    assert failures_in_a_row(before, well_s) == after


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        pytest.param("kafka", (), id="a server needs nothing"),
        pytest.param("mlflow", (), id="the model registry needs nothing"),
        pytest.param("topics", ("kafka",), id="topics need a broker"),
        pytest.param("ingress-3", ("topics", "redis"), id="every ingress process needs topics and Redis"),
        pytest.param("logger", ("topics", "redis"), id="the logger too"),
        pytest.param("submissions", ("topics", "redis"), id="and what hands on bulk work"),
    ],
)
def test_needs(name: str, needs: tuple[str, ...]) -> None:
    assert needs_of(name) == needs


def test_a_stack_stops_in_drain_order() -> None:
    names = ["kafka", "redis", "mlflow", "ingress-0", "submissions", "scaler", "logger", "warm-a", "scorer-a", "scorer-b"]
    assert stop_waves(names) == [
        ["ingress-0", "submissions"],
        ["scaler"],
        ["scorer-a", "scorer-b"],
        ["logger", "warm-a"],
        ["kafka", "redis", "mlflow"],
    ]


def test_what_is_external_leaves_no_empty_wave() -> None:
    assert stop_waves(["scaler"]) == [["scaler"]]
