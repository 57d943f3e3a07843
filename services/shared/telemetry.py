"""Logs, spans and metric names of every service.

Logs are JSON lines on stdout. Spans and metrics go out by OTLP when the standard variables name an endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT` or its per-signal twins); without them no provider is made and the API's no-ops cost nothing.
"""

import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pythonjsonlogger.json import JsonFormatter

# The one list of metric names; units as OpenTelemetry writes them.
REQUESTS = "penstock.requests"  # {request}, by endpoint and status class
REQUEST_DURATION = "penstock.request.duration"  # s, ingress: accepted to answered
QUEUE_DURATION = "penstock.queue.duration"  # s, accepted to evaluation started
EVALUATION_DURATION = "penstock.evaluation.duration"  # s, inside the model worker
WORKER_RESTARTS = "penstock.worker.restarts"  # {restart}
LOGGED_ROWS = "penstock.logger.rows"  # {row}
LOGGED_REPEATS = "penstock.logger.repeats"  # {row}, dropped because the table has them

REPEAT_PAUSE_S = 10.0

_TRACE_FORMAT = TraceContextTextMapPropagator()
_NO_SPAN = nullcontext(trace.INVALID_SPAN)


def start_telemetry(service: str, level: str) -> None:
    """Set up logging, and OTLP export where the standard variables ask for it. Called once, in `__main__`."""
    handler = logging.StreamHandler(sys.stdout)
    fields = {"asctime": "time", "levelname": "level", "name": "module"}
    handler.setFormatter(
        JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=fields, static_fields={"service": service})
    )
    handler.addFilter(_add_trace_id)
    handler.addFilter(QuietRepeats("aiokafka", REPEAT_PAUSE_S))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    resource = Resource.create({"service.name": f"penstock-{service}"})
    if _exports("TRACES"):
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    if _exports("METRICS"):
        metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())]))


class QuietRepeats(logging.Filter):
    """Lets one logger family say the same sentence once per pause: aiokafka says it hundreds of times a second without a broker."""

    def __init__(self, family: str, pause_s: float) -> None:
        super().__init__()
        self._family = family
        self._pause_s = pause_s
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._family:
            return True
        sentence = (record.name, str(record.msg))
        if record.created - self._said_at.get(sentence, float("-inf")) < self._pause_s:
            return False
        self._said_at[sentence] = record.created
        return True


def stop_telemetry() -> None:
    """Send what is buffered."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if isinstance(provider, TracerProvider | MeterProvider):
            provider.shutdown()


def span(name: str, traceparent: str = "", **attributes: str | int) -> AbstractContextManager[trace.Span]:
    """A span under the trace that `traceparent` names ("" starts a new one).

    When nothing is exported it only gives the caller's trace id to what is logged inside; without one it is nothing at all.
    """
    if not traceparent and not _exports("TRACES"):
        return _NO_SPAN
    return trace.get_tracer("penstock").start_as_current_span(name, context_of(traceparent), attributes=attributes)


def record_span(name: str, traceparent: str, started_ns: int, **attributes: str | int) -> None:
    """A span that ends now and began at `started_ns` (epoch), for work that many requests shared. Costs nothing unless exported."""
    if _exports("TRACES"):
        trace.get_tracer("penstock").start_span(name, context_of(traceparent), attributes=attributes, start_time=started_ns).end()


def context_of(traceparent: str) -> Context | None:
    return _TRACE_FORMAT.extract({"traceparent": traceparent}) if traceparent else None


def traceparent_of(current: trace.Span, received: str = "") -> str:
    """What goes into the record: the span's own context, or the caller's when no span is recorded here."""
    if not current.get_span_context().is_valid:
        return received
    carrier: dict[str, str] = {}
    _TRACE_FORMAT.inject(carrier, trace.set_span_in_context(current))
    return carrier.get("traceparent", received)


@cache  # asked once a request
def _exports(signal: str) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))


def _add_trace_id(record: logging.LogRecord) -> bool:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = trace.format_trace_id(context.trace_id)
    return True
