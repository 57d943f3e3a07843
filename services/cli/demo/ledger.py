"""What the demo sent and got, what the table says of it, and whether the two agree. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Answered:
    """One request as the client saw it: the held-out rows it held, who answered, and what."""

    client_request_id: str
    rows: range
    entity: str
    predictions: list[int]
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Logged:
    """One row of the inference table."""

    client_request_id: str
    entity: str
    status: int
    response: str
    execution_ms: int


@dataclass(frozen=True, slots=True)
class EntitySummary:
    """Per served entity: figures from the table beside what was expected. Shares in percent, times in ms."""

    entity: str
    requests: int
    share: float
    expected_share: float
    tolerance: float
    p50_ms: float
    p99_ms: float
    accuracy: float
    expected_accuracy: float


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """Rows of a batch's results that are alike: who answered, which held-out row it was, and what was predicted."""

    entity: str
    row: int
    prediction: int | None
    rows: int
    errors: int


def wrong_answers(answered: Sequence[Answered], local: Mapping[str, Sequence[int]]) -> list[str]:
    """Requests whose answer is not what that entity's model predicts locally for the same rows."""
    return [a.client_request_id for a in answered if a.predictions != [local[a.entity][row] for row in a.rows]]


def differences(answered: Sequence[Answered], logged: Sequence[Logged]) -> list[str]:
    """In words, where ledger and table differ: rows missing, doubled, never sent, or with another answer. Empty when they agree."""
    faults = []
    rows: dict[str, Logged] = {}
    for row in logged:
        if row.client_request_id in rows:
            faults.append(f"{row.client_request_id} is in the table twice")
        rows[row.client_request_id] = row
    for answer in answered:
        found = rows.pop(answer.client_request_id, None)
        if found is None:
            faults.append(f"{answer.client_request_id} is not in the table")
        elif (found.status, found.entity, json.loads(found.response)["predictions"]) != (200, answer.entity, answer.predictions):
            faults.append(f"{answer.client_request_id} has another answer in the table")
    return faults + [f"{stranger} is in the table and was never sent" for stranger in rows]


def summarise(
    logged: Sequence[Logged],
    rows_of: Mapping[str, range],
    labels: Sequence[int],
    local: Mapping[str, Sequence[int]],
    shares: Mapping[str, int],
) -> list[EntitySummary]:
    """The table's figures per entity. The tolerance of a share is four standard deviations of the draw: 1 run in 16,000 is outside."""
    summaries = []
    for entity, expected_share in shares.items():
        mine = [row for row in logged if row.entity == entity]
        times = [float(row.execution_ms) for row in mine]
        cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else [0.0] * 99
        said = [
            (index, p)
            for row in mine
            for index, p in zip(rows_of[row.client_request_id], json.loads(row.response)["predictions"], strict=True)
        ]
        p = expected_share / 100
        summaries.append(
            EntitySummary(
                entity=entity,
                requests=len(mine),
                share=100 * len(mine) / len(logged),
                expected_share=expected_share,
                tolerance=100 * 4 * sqrt(p * (1 - p) / len(logged)),
                p50_ms=cuts[49],
                p99_ms=cuts[98],
                accuracy=_accuracy([prediction for _, prediction in said], [labels[index] for index, _ in said]),
                expected_accuracy=_accuracy([local[entity][index] for index, _ in said], [labels[index] for index, _ in said]),
            )
        )
    return summaries


def summary_faults(summaries: Sequence[EntitySummary]) -> list[str]:
    """In words, which figures are not what was expected."""
    faults = []
    for s in summaries:
        if abs(s.share - s.expected_share) > s.tolerance:
            faults.append(f"{s.entity} got {s.share:.1f} % of the requests, expected {s.expected_share} ± {s.tolerance:.1f}")
        if s.accuracy != s.expected_accuracy:
            faults.append(f"{s.entity} has accuracy {s.accuracy:.4f} in the table, {s.expected_accuracy:.4f} locally")
    return faults


def batch_faults(found: Sequence[BatchSummary], rows: int, local: Mapping[str, Sequence[int]]) -> list[str]:
    """In words, where the results of a batch of so many rows are not what the models predict locally."""
    counted = sum(summary.rows for summary in found)
    faults = [] if counted == rows else [f"the batch has {counted} results, expected {rows}"]
    wrong = sum(s.rows for s in found if s.errors or s.entity not in local or s.prediction != local[s.entity][s.row])
    return [*faults, f"{wrong} results of the batch are other than the model predicts locally"] if wrong else faults


def _accuracy(predictions: Sequence[int], labels: Sequence[int]) -> float:
    return sum(p == label for p, label in zip(predictions, labels, strict=True)) / len(labels) if labels else 0.0
