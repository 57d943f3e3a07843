"""What evaluations take: histograms and spans for people, one moving average for the scaler and admission."""

import time

from opentelemetry import metrics

from services.scorer.answers import Answer
from services.scorer.batching import row_in_company_s, rows_together_s
from services.scorer.model_worker.frames import Traits
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.envelope import ScoringRequest
from services.shared.tallies import PREDICTION, QUEUE, Tallies
from services.shared.telemetry import EVALUATION_DURATION, QUEUE_DURATION, record_span

AVERAGE_WEIGHT = 0.1


class EvaluationMeter:
    """`evaluation_s`: lane-seconds one request takes, None before the first. A busy replica scores LANES_PER_REPLICA of it a second.

    `batched_s`: what it will take once there is more to do and it has company, by what the proof at load says that company saves.
    None where there is none.
    """

    def __init__(self, tallies: Tallies | None) -> None:
        """Without `tallies` the endpoint's histograms leave it out: what bulk work waits and takes is not what its callers feel."""
        self._tallies = tallies
        self.evaluation_s: float | None = None
        self.batched_s: float | None = None
        self._proven: tuple[float, float] | None = None
        self._row_s = 0.0  # what a row takes in company, by the proof
        meter = metrics.get_meter("penstock")
        self._queued = meter.create_histogram(QUEUE_DURATION, unit="s")
        self._evaluated = meter.create_histogram(EVALUATION_DURATION, unit="s")

    def loaded(self, traits: Traits, lanes: int) -> None:
        """A model, of which `lanes` batches are evaluated at once."""
        if traits.first_s is not None and traits.more_s is not None:
            self._proven = traits.first_s, traits.more_s
            self._row_s = row_in_company_s(*self._proven)
            self.batched_s = self._row_s * LANES_PER_REPLICA / lanes

    def started(self, request: ScoringRequest, now_ms: int) -> None:
        waited_ms = max(0, now_ms - request.accepted_at_ms)
        self._queued.record(waited_ms / 1000, {"endpoint": request.endpoint})
        if self._tallies is not None:
            self._tallies.observe(request.endpoint_id, request.entity, QUEUE, waited_ms)

    def evaluated(self, request: ScoringRequest, answer: Answer, lanes: int | None) -> None:
        """`lanes` batches were evaluated at once; a micro-batch's time is shared by its members. None: it had a lane to itself."""
        self._evaluated.record(answer.duration_s, {"endpoint": request.endpoint, "entity": request.entity})
        if self._tallies is not None:
            self._tallies.observe(request.endpoint_id, request.entity, PREDICTION, answer.duration_s * 1000)
        share_s = answer.duration_s / answer.together * LANES_PER_REPLICA / (lanes or LANES_PER_REPLICA)
        self.evaluation_s = _averaged(self.evaluation_s, share_s)
        if self._proven:
            left = 1.0 if lanes is None else self._row_s * answer.rows / rows_together_s(answer.rows, *self._proven)  # by company
            self.batched_s = _averaged(self.batched_s, share_s * left)
        started_ns = time.time_ns() - round(answer.duration_s * 1e9)
        facts = {"endpoint": request.endpoint, "entity": request.entity, "request_id": request.request_id}
        record_span("score", request.traceparent, started_ns, **facts)


def _averaged(last: float | None, share_s: float) -> float:
    return share_s if last is None else last + AVERAGE_WEIGHT * (share_s - last)
