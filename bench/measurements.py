"""The measurements of a run as lines of a CSV file: one a system, model, load and round."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from bench.load import Load

CLOSED, OPEN = "closed", "open"
FILE = "measurements.csv"


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
        cpu_us=round(cpu_s / load.requests * 1e6, 1) if load.requests else 0.0,
    )


def read_measurements(file: Path) -> list[Measurement]:
    """Empty when there is no such file. Raises ValueError on a file of another shape."""
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [_parse(line) for line in csv.DictReader(lines)]


def append_measurement(file: Path, measurement: Measurement) -> None:
    is_new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, [f.name for f in fields(Measurement)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(measurement))


def over_rounds(measurements: Iterable[Measurement], system: str, model: str, loop: str, level: int | None, figure: str) -> float | None:
    """The median over the rounds of one figure; None when it was not measured. A level of None takes whatever level there is."""
    found = [
        float(getattr(m, figure))
        for m in measurements
        if (m.system, m.model, m.loop) == (system, model, loop) and (level is None or m.level == level)
    ]
    return median(found) if found else None


def _parse(line: dict[str, str]) -> Measurement:
    kinds = {f.name: f.type for f in fields(Measurement)}
    if set(line) != set(kinds):
        raise ValueError(f"not a file of measurements: its columns are {', '.join(map(str, line))}")
    convert = {str: str, int: int, float: float}
    return Measurement(**{name: convert[kinds[name]](value) for name, value in line.items()})  # type: ignore[index]
