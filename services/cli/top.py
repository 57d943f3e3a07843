"""`penstock top`: endpoints as they are now, by two readings of Penstock's own metrics."""

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from services.cli.layout import cell, console, table
from services.cli.metrics import REFUSED, Sample, buckets_of, parse_samples, quantile
from services.cli.workspace import ApiToken, Host, Workspace

EVERY_S = 1.0
WINDOW_S = 5.0  # the processes add their counts once a second, each at its own moment
REQUESTS, DURATION = "penstock_requests_total", "penstock_request_duration_ms"
POOL = "penstock_pool_"

Key = tuple[str, str]  # endpoint and served entity; "" for what was refused before one was chosen
_Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the stack said at a moment, in monotonic seconds."""

    at_s: float
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Line:
    """One served entity. Rates are of the time between two readings; None is not known, or was not seen."""

    endpoint: str
    entity: str
    per_s: float
    failed_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    in_flight: float | None
    lag: float | None
    ready: float | None
    wanted: float | None
    wakes: int
    reason: str


def top(host: Host = None, token: ApiToken = None) -> None:
    """Watch endpoints: rates, times, queues, and how many replicas there are and why. Ctrl-C ends it; into a file it is one look."""
    with Workspace(host, token) as workspace:
        readings = deque([_read(workspace)])
        if not sys.stdout.isatty():
            time.sleep(WINDOW_S)
            console().print(view(readings[0], _read(workspace)))
            return
        try:
            _watch(workspace, readings)
        except KeyboardInterrupt:
            return


def _watch(workspace: Workspace, readings: deque[Reading]) -> None:
    with Live(console=console(), screen=True, auto_refresh=False) as screen:
        while True:
            time.sleep(EVERY_S)
            readings.append(_read(workspace))
            while readings[-1].at_s - readings[1].at_s >= WINDOW_S:
                readings.popleft()
            screen.update(view(readings[0], readings[-1]), refresh=True)


def _read(workspace: Workspace) -> Reading:
    return Reading(time.monotonic(), list(parse_samples(workspace.ask("GET", "/metrics").text)))


def view(before: Reading, now: Reading) -> RenderableType:
    lines = lines_between(before, now)
    if not lines:
        return Text("no endpoint serves yet: `penstock deploy models:/churn/3` makes one")
    titles = ("endpoint", "served entity", "req/s", "failed/s", "p50 ms", "p99 ms", "in flight", "lag", "replicas", "wakes", "why")
    laid = table(*titles, right=titles[2:10], wrapped=("endpoint", "served entity", "why"))
    for line in lines:
        replicas = "" if line.ready is None else f"{line.ready:g}" + (f" → {line.wanted:g}" if line.wanted != line.ready else "")
        figures = (line.per_s, line.failed_per_s, line.p50_ms, line.p99_ms)
        rounded = ["" if figure is None else f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}" for figure in figures]
        counts = ["" if count is None else f"{count:g}" for count in (line.in_flight, line.lag)]
        laid.add_row(
            cell(line.endpoint), cell(line.entity or REFUSED), *rounded, *counts, replicas, str(line.wakes or ""), cell(line.reason)
        )
    total = sum(line.per_s for line in lines)
    endpoints = len({line.endpoint for line in lines})
    head = f"{endpoints} endpoint{'s' * (endpoints != 1)} · {total:.0f} requests/s over {now.at_s - before.at_s:.0f} s\n"
    return Group(Text(head), laid)


def lines_between(before: Reading, now: Reading) -> list[Line]:
    """The busiest first. A counter that went back began anew, as one does when Redis lost it."""
    then = {_series(sample): sample.value for sample in before.samples}
    grown = [Sample(s.name, s.labels, _growth(s.value, then.get(_series(s), 0.0))) for s in now.samples]
    seconds = max(now.at_s - before.at_s, 1e-9)
    values, reasons = _pools(now.samples)
    keys = dict.fromkeys(_key(s) for s in now.samples if "endpoint_name" in s.labels)
    return sorted(
        (_line(key, [s for s in grown if _key(s) == key], seconds, values.get(key, {}), reasons.get(key, "")) for key in keys),
        key=lambda line: (-line.per_s, line.endpoint, line.entity),
    )


def _line(key: Key, grown: Sequence[Sample], seconds: float, pool: Mapping[str, float], reason: str) -> Line:
    answered = {s.labels["status"]: s.value for s in grown if s.name == REQUESTS}
    buckets = buckets_of(grown, DURATION)
    return Line(
        *key,
        per_s=sum(answered.values()) / seconds,
        failed_per_s=sum(answered.get(of, 0) for of in ("4xx", "5xx")) / seconds,
        p50_ms=quantile(buckets, 0.5),
        p99_ms=quantile(buckets, 0.99),
        in_flight=pool.get("requests_in_flight"),
        lag=pool.get("lag_records"),
        ready=pool.get("replicas_ready"),
        wanted=pool.get("replicas_wanted"),
        wakes=int(pool.get("wake_ms_count", 0)),
        reason=reason,
    )


def _pools(samples: Sequence[Sample]) -> tuple[dict[Key, dict[str, float]], dict[Key, str]]:
    """The gauges of each pool by their names' ends, and the reason of its last decision."""
    values: dict[Key, dict[str, float]] = {}
    reasons = {}
    for sample in samples:
        if sample.name == f"{POOL}decision":
            reasons[_key(sample)] = sample.labels["reason"]
        elif sample.name.startswith(POOL):
            values.setdefault(_key(sample), {})[sample.name.removeprefix(POOL)] = sample.value
    return values, reasons


def _key(sample: Sample) -> Key:
    return sample.labels.get("endpoint_name", ""), sample.labels.get("served_entity", "")


def _series(sample: Sample) -> _Series:
    return sample.name, tuple(sorted(sample.labels.items()))


def _growth(now: float, then: float) -> float:
    return now - then if now >= then else now
