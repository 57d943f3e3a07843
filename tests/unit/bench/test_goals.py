"""Verdicts come from the measurements alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.goals import judge, losses
from bench.measurements import CLOSED, OPEN, HopMeasurement, Measurement, append_row, over_rounds, read_measurements
from bench.report import to_markdown

ONE = Measurement(1, "penstock", "linear", CLOSED, 64, 5_000, 0, 5.0, 1_000.0, 10.0, 20.0, 30.0, 40.0, 400.0)
MLFLOW = replace(ONE, system="mlflow", per_second=25.0, p50_ms=100.0, p99_ms=300.0)
MLSERVER = replace(ONE, system="mlserver", per_second=250.0, p50_ms=50.0, p99_ms=25.0)


@pytest.mark.parametrize(
    ("measurements", "what", "measured", "holds"),
    [
        pytest.param([ONE, MLFLOW], "against mlflow serve", 40.0, True, id="a ratio that is just reached holds"),
        pytest.param([replace(ONE, per_second=999.0), MLFLOW], "against mlflow serve", 39.96, False, id="one just short of it does not"),
        pytest.param(
            [ONE, MLFLOW, MLSERVER], "linear, 64 connections, against the best peer", 4.0, False, id="the best peer is the one to beat"
        ),
        pytest.param([ONE], "against mlflow serve", None, None, id="without the peer there is no verdict"),
        pytest.param(
            [ONE, replace(ONE, system="uvicorn", per_second=9_000.0), replace(ONE, system="penstock-2", per_second=9_000.0)],
            "linear, 64 connections, against the best peer",
            None,
            None,
            id="neither the ceiling nor Penstock itself is a peer",
        ),
        pytest.param(
            [replace(ONE, loop=OPEN, level=500)], "p99 against p50", 3.0, True, id="the open loop is found at whatever rate it had"
        ),
        pytest.param([replace(ONE, level=256)], "cores for", 10.0, True, id="cores come from CPU time a request"),
    ],
)
def test_judge(measurements: list[Measurement], what: str, measured: float | None, holds: bool | None) -> None:
    verdict = next(v for v in judge(measurements) if what in v.what)
    assert verdict.measured == pytest.approx(measured)
    assert verdict.holds is holds


def test_losses_name_each_figure_in_which_a_peer_is_better() -> None:
    assert losses([ONE, MLFLOW, MLSERVER]) == ["linear, 64 connections: mlserver 25.0 ms p99, Penstock 30.0"]


def test_figures_are_medians_over_the_rounds() -> None:
    rounds = [replace(ONE, round=n, per_second=figure) for n, figure in ((1, 900.0), (2, 5_000.0), (3, 1_100.0))]
    assert over_rounds(rounds, "penstock", "linear", CLOSED, 64, "per_second") == 1_100.0


def test_a_file_of_measurements_comes_back_as_it_was_written(tmp_path: Path) -> None:
    for measurement in (ONE, MLFLOW):
        append_row(tmp_path / "m.csv", measurement)
    assert read_measurements(tmp_path / "m.csv") == [ONE, MLFLOW]


def test_the_report_says_what_was_not_measured() -> None:
    text = to_markdown([ONE, MLFLOW], [HopMeasurement(1, "penstock", "linear", CLOSED, 64, "kafka", 120.0)], "2 cores")
    assert "| kafka | 120 |" in text
    assert "| linear, 64 connections, against mlflow serve | ≥ 40 × | 40.00 × | holds |" in text
    assert "| forest, 64 connections, against the best peer | ≥ 2 × | not measured |" in text
