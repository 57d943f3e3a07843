"""An endpoint's Prometheus text (databricks_surface §4) as one line for each served entity. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from services.cli.layout import cell, table

COUNTS = {  # title → name
    "slots": "provisioned_concurrent_requests_total",
    "calls": "request_count_total",
    "4xx": "request_4xx_count_total",
    "5xx": "request_5xx_count_total",
}
TIMES = {  # title → name and share
    "answer\np50 ms": ("request_latency_ms", 0.5),
    "answer\np99 ms": ("request_latency_ms", 0.99),
    "queue\np99 ms": ("model_queue_time_ms", 0.99),
    "model\np50 ms": ("model_prediction_latency_ms", 0.5),
    "model\np99 ms": ("model_prediction_latency_ms", 0.99),
}
REFUSED = "(refused before one was chosen)"
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def parse_samples(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        if found := _SAMPLE.fullmatch(line):
            yield Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3]))


def metrics_table(samples: Sequence[Sample]) -> Table:
    """Slots are how many are scored at once, counts those of the last minute, times of all requests there were."""
    columns = (*COUNTS, *TIMES)
    laid = table("served entity", *columns, right=columns, wrapped=("served entity",))
    for entity in dict.fromkeys(sample.labels.get("served_entity", "") for sample in samples):
        own = [sample for sample in samples if sample.labels.get("served_entity", "") == entity]
        counted = {sample.name: sample.value for sample in own}
        counts = (f"{counted[name]:g}" if name in counted else "" for name in COUNTS.values())
        times = (_milliseconds(quantile(buckets_of(own, name), share)) for name, share in TIMES.values())
        laid.add_row(cell(entity or REFUSED), *counts, *times)
    return laid


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """As Prometheus' `histogram_quantile`: even within a bucket; in the last one, its lower bound. None without observations.

    `buckets` are upper bounds, rising and ending with infinity, with how many were at most that.
    """
    rank = share * buckets[-1][1] if buckets else 0
    if not rank:
        return None
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return None


def buckets_of(samples: Sequence[Sample], name: str) -> list[tuple[float, float]]:
    return sorted((float(sample.labels["le"]), sample.value) for sample in samples if sample.name == f"{name}_bucket")


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
