"""Metrics as Prometheus text: each endpoint's with the names and types of databricks_surface §4, and Penstock's own. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.shared.control_events import LANES_PER_REPLICA
from services.shared.endpoints import Endpoint
from services.shared.presence import IngressReport, PoolReport, in_flight_by_pool
from services.shared.tallies import BOUNDS_MS, BUCKETS, LATENCY, PREDICTION, QUEUE, STATUS, SUM_US, WAKE, Counts, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOTHING = Tally({}, {})
_HISTOGRAMS = {"request_latency_ms": LATENCY, "model_queue_time_ms": QUEUE, "model_prediction_latency_ms": PREDICTION}
_COUNTS = {"request_count_total": ("2xx", "3xx", "4xx", "5xx"), "request_4xx_count_total": ("4xx",), "request_5xx_count_total": ("5xx",)}

Labels = Mapping[str, str]


@dataclass
class _Text:
    """`suffix` ends each sample: a timestamp, or nothing."""

    suffix: str
    lines: list[str] = field(default_factory=list)

    def family(self, name: str, kind: str) -> None:
        self.lines.append(f"# TYPE {name} {kind}")

    def sample(self, name: str, labels: Labels, value: float) -> None:
        shown = ",".join(f'{key}="{text}"' for key, text in labels.items())  # names of ours: nothing in them needs escaping
        self.lines.append(f"{name}{{{shown}}} {value:.10g}{self.suffix}" if shown else f"{name} {value:.10g}{self.suffix}")

    def histogram(self, name: str, labels: Labels, counts: Counts, entity: str, what: str) -> None:
        below = 0
        for bound, bucket in zip([*map(str, BOUNDS_MS), "+Inf"], BUCKETS, strict=True):
            below += counts.get((entity, what, bucket), 0)
            self.sample(f"{name}_bucket", {**labels, "le": bound}, below)
        self.sample(f"{name}_sum", labels, counts.get((entity, what, SUM_US), 0) / 1000)
        self.sample(f"{name}_count", labels, below)

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def endpoint_metrics(endpoint: Endpoint, tally: Tally, reports: Mapping[str, PoolReport], at_ms: int) -> str:
    """Despite their names the three counts are gauges over the last minute, as Databricks documents them."""
    text = _Text(f" {at_ms}")
    entities = _entities(endpoint, tally)
    text.family("provisioned_concurrent_requests_total", "gauge")
    for entity, pool_id in _pools(endpoint):
        report = reports.get(pool_id)
        text.sample("provisioned_concurrent_requests_total", _labels(endpoint, entity), report.ready * LANES_PER_REPLICA if report else 0)
    _usage_gauges(text, endpoint, reports)
    for name, classes in _COUNTS.items():
        text.family(name, "gauge")
        for entity in entities:
            text.sample(name, _labels(endpoint, entity), sum(tally.last_minute.get((entity, STATUS, of), 0) for of in classes))
    for name, what in _HISTOGRAMS.items():
        text.family(name, "histogram")
        for entity in filter(None, entities):
            text.histogram(name, _labels(endpoint, entity), tally.ever, entity, what)
    return str(text)


def _usage_gauges(text: _Text, endpoint: Endpoint, reports: Mapping[str, PoolReport]) -> None:
    """Means over the replicas of an entity; one that has none, or is not known, has no sample."""
    pools = [(entity, reports[pool_id]) for entity, pool_id in _pools(endpoint) if pool_id in reports]
    for name, shares in (
        ("cpu_usage_percentage", [(entity, report.cpu_share) for entity, report in pools]),
        ("mem_usage_percentage", [(entity, report.memory_share) for entity, report in pools]),
    ):
        text.family(name, "gauge")
        for entity, share in shares:
            if share is not None:
                text.sample(name, _labels(endpoint, entity), share * 100)


def own_metrics(
    endpoints: Iterable[Endpoint], tallies: Mapping[str, Tally], reports: Mapping[str, PoolReport], ingresses: Sequence[IngressReport]
) -> str:
    """True counters, and what the scaler sees and decided. Labels are endpoints that exist and their entities, so they are bounded."""
    text, served = _Text(""), [(e, tallies.get(e.endpoint_id, NOTHING)) for e in endpoints]
    text.family("penstock_ingress_processes", "gauge")
    text.sample("penstock_ingress_processes", {}, len(ingresses))
    text.family("penstock_requests_total", "counter")
    for endpoint, tally in served:
        for (entity, what, of), count in sorted(tally.ever.items()):
            if what == STATUS and entity in _entities(endpoint, tally):
                text.sample("penstock_requests_total", {**_labels(endpoint, entity), "status": of}, count)
    text.family("penstock_request_duration_ms", "histogram")
    for endpoint, tally in served:
        for entity in filter(None, _entities(endpoint, tally)):
            text.histogram("penstock_request_duration_ms", _labels(endpoint, entity), tally.ever, entity, LATENCY)
    text.family("penstock_pool_wake_ms", "histogram")
    for endpoint, tally in served:
        for entity, _ in _pools(endpoint):
            text.histogram("penstock_pool_wake_ms", _labels(endpoint, entity), tally.ever, entity, WAKE)
    pools = [(e, entity, reports[pool_id]) for e, _ in served for entity, pool_id in _pools(e) if pool_id in reports]
    _pool_gauges(text, pools, in_flight_by_pool(ingresses))
    return str(text)


def _pool_gauges(text: _Text, pools: Sequence[tuple[Endpoint, str, PoolReport]], in_flight: Mapping[str, int]) -> None:
    for name, values in (
        ("penstock_pool_replicas_wanted", [report.wanted for _, _, report in pools]),
        ("penstock_pool_replicas_ready", [report.ready for _, _, report in pools]),
        ("penstock_pool_lag_records", [report.lag for _, _, report in pools]),
        ("penstock_pool_requests_in_flight", [in_flight.get(report.pool_id, 0) for _, _, report in pools]),
    ):
        text.family(name, "gauge")
        for (endpoint, entity, _), value in zip(pools, values, strict=True):
            if value is not None:  # not known is not zero
                text.sample(name, _labels(endpoint, entity), value)
    text.family("penstock_pool_decision", "gauge")
    for endpoint, entity, report in pools:
        text.sample("penstock_pool_decision", {**_labels(endpoint, entity), "reason": report.reason}, 1)


def _pools(endpoint: Endpoint) -> list[tuple[str, str]]:
    return [(name, entity.pool_id) for name, entity in endpoint.active.entities.items()] if endpoint.active else []


def _entities(endpoint: Endpoint, tally: Tally) -> list[str]:
    """Those in service, and "" for what was refused before one was chosen; what older configs named is counted no more."""
    return [*(name for name, _ in _pools(endpoint)), *([""] if any(not entity for entity, _, _ in tally.ever) else [])]


def _labels(endpoint: Endpoint, entity: str) -> dict[str, str]:
    return {"endpoint_name": endpoint.name} | ({"served_entity": entity} if entity else {})
