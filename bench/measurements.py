"""The measurements of a run as lines of a CSV file: one a system, model, load and round."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from bench.cpu import HopCost, per_request_us
from bench.load import Load

CLOSED, OPEN = "closed", "open"
FILE, HOPS_FILE = "measurements.csv", "hops.csv"


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured: `level` is connections of a closed loop, requests/s due of an open one."""

    round: int
    system: str
    model: str
    loop: str
    level: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latencies in ms. `cpu_us` is CPU time of all the system's processes a request; `failed` are requests without a good answer."""

    round: int
    system: str
    model: str
    loop: str
    level: int
    requests: int
    failed: int
    duration_s: float
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float

    @property
    def point(self) -> Point:
        return Point(self.round, self.system, self.model, self.loop, self.level)


@dataclass(frozen=True, slots=True)
class HopMeasurement:
    """CPU time a request of one hop of Penstock."""

    round: int
    system: str
    model: str
    loop: str
    level: int
    hop: str
    cpu_us: float


R = TypeVar("R", Measurement, HopMeasurement)
_CONVERTERS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float}


def to_measurement(point: Point, load: Load, cpu_s: float) -> Measurement:
    return Measurement(
        **asdict(point),
        requests=load.requests,
        failed=load.failed,
        duration_s=round(load.duration_s, 3),
        per_second=round(load.per_second, 1),
        p50_ms=round(load.p50_ms, 3),
        p90_ms=round(load.p90_ms, 3),
        p99_ms=round(load.p99_ms, 3),
        max_ms=round(load.max_ms, 3),
        cpu_us=round(per_request_us(cpu_s, load.requests), 1),
    )


def to_hop_measurement(point: Point, load: Load, cost: HopCost) -> HopMeasurement:
    return HopMeasurement(**asdict(point), hop=cost.hop, cpu_us=round(per_request_us(cost.cpu_s, load.requests), 1))


def read_measurements(file: Path) -> list[Measurement]:
    """Empty when there is no such file. Raises ValueError on a file of another shape."""
    return list(_rows(file, Measurement))


def read_hop_measurements(file: Path) -> list[HopMeasurement]:
    """As `read_measurements`."""
    return list(_rows(file, HopMeasurement))


def append_row(file: Path, row: Measurement | HopMeasurement) -> None:
    is_new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, [f.name for f in fields(row)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def over_rounds(measurements: Iterable[Measurement], system: str, model: str, loop: str, level: int | None, figure: str) -> float | None:
    """The median over the rounds of one figure; None when it was not measured. A level of None takes whatever level there is."""
    found = [
        float(getattr(m, figure))
        for m in measurements
        if (m.system, m.model, m.loop) == (system, model, loop) and (level is None or m.level == level)
    ]
    return median(found) if found else None


def _rows(file: Path, kind: type[R]) -> Iterator[R]:
    if not file.exists():
        return
    converters = {f.name: _CONVERTERS[f.type] for f in fields(kind)}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            if set(line) != set(converters):
                raise ValueError(f"{file.name} has other columns: {', '.join(map(str, line))}")
            yield kind(**{name: converters[name](value) for name, value in line.items()})
