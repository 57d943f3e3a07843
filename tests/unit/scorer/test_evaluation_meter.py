"""What requests take of a lane: as they were scored, and as they would be among many."""

import pytest

from services.scorer.answers import Answer
from services.scorer.evaluation_meter import EvaluationMeter
from services.scorer.model_worker.frames import Traits
from services.shared.envelope import ScoringRequest

REQUEST = ScoringRequest("id", "e", "n", "m-1", "s", "ada", 0, 2**50, "stream", "", "application/json", "", 1, b"{}")
FOREST = Traits(True, False, "rows come out the same", first_s=0.1, more_s=0.002)
TYPICAL_S = 0.2 / 51 * 4  # 51 rows take twice as long as one, in the one lane of four


def test_before_the_first_request_company_saves_what_the_proof_says() -> None:
    meter = EvaluationMeter(None)
    meter.loaded(FOREST, lanes=1)
    assert meter.evaluation_s is None
    assert meter.batched_s == pytest.approx(TYPICAL_S)


@pytest.mark.parametrize(
    ("took_s", "together", "rows", "lanes", "share_s", "batched_s"),
    [
        pytest.param(0.1, 1, 1, 1, 0.4, TYPICAL_S, id="alone, as in the proof"),
        pytest.param(0.118, 10, 10, 1, 0.0472, TYPICAL_S, id="ten together"),
        pytest.param(0.236, 10, 10, 1, 0.0944, 2 * TYPICAL_S, id="on a machine half as fast"),
        pytest.param(0.178, 4, 40, 1, 0.178, 10 * TYPICAL_S, id="ten rows each"),
        pytest.param(0.1, 1, 0, None, 0.1, 0.1, id="MLflow's own way: with a lane to itself it will be as it was"),
    ],
)
def test_what_a_request_took_and_will_take(
    took_s: float, together: int, rows: int, lanes: int | None, share_s: float, batched_s: float
) -> None:
    meter = EvaluationMeter(None)
    meter.loaded(FOREST, lanes=1)
    for _ in range(200):  # what the proof said weighs nothing any more
        meter.evaluated(REQUEST, Answer(200, "application/json", b"{}", duration_s=took_s, together=together, rows=rows), lanes)
    assert [meter.evaluation_s, meter.batched_s] == pytest.approx([share_s, batched_s])


@pytest.mark.parametrize("more_s", [0.0, 0.0001])
def test_of_a_model_that_takes_any_number_of_rows_a_busy_pool_has_a_full_batch(more_s: float) -> None:
    meter = EvaluationMeter(None)
    meter.loaded(Traits(True, True, "it waits", first_s=0.1, more_s=more_s), lanes=4)
    assert meter.batched_s == pytest.approx((0.1 + 127 * more_s) / 128)


def test_a_model_that_gains_nothing_is_as_slow_in_company() -> None:
    meter = EvaluationMeter(None)
    meter.loaded(Traits(True, False, "row by row", first_s=0.01, more_s=0.01), lanes=1)
    assert meter.batched_s == pytest.approx(0.04)


def test_a_model_whose_requests_go_alone_has_no_company() -> None:
    meter = EvaluationMeter(None)
    meter.loaded(Traits(False, False, "no input example"), lanes=4)
    meter.evaluated(REQUEST, Answer(200, "application/json", b"{}", duration_s=0.1), 4)
    assert (meter.evaluation_s, meter.batched_s) == (0.1, None)
