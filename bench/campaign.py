"""The whole comparison: rounds over the systems, each alone on the machine, then a constant rate at half of each one's peak."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.cpu import cpu_times, hop_costs, used_s
from bench.load import Load, Target, closed_loop, open_loop
from bench.measurements import (
    CLOSED,
    FILE,
    HOPS_FILE,
    OPEN,
    Measurement,
    Point,
    append_row,
    over_rounds,
    read_measurements,
    to_hop_measurement,
    to_measurement,
)
from bench.models import expected_predictions, request_body, saved_model
from bench.penstock import Stack, own_stack
from bench.places import BUILT
from bench.systems import ECHO_CEILING, PEERS_BY_NAME, Running, SystemFailed, running_peer

PENSTOCK, PENSTOCK_TWO = "penstock", "penstock-2"
SETTINGS: dict[str, dict[str, str]] = {PENSTOCK: {}, PENSTOCK_TWO: {"PENSTOCK_INGRESS_PROCESSES": "2"}}
SYSTEMS = (PENSTOCK, *PEERS_BY_NAME, ECHO_CEILING.name, PENSTOCK_TWO)
MODELS = ("linear", "forest", "echo")
CONNECTIONS = {"linear": (1, 16, 64, 256), "forest": (64,), "echo": (1, 64)}
OPEN_MODEL = "linear"
WARM_UP_CONNECTIONS = 32
WARM_UP_S = 4.0  # each; a JVM's compilers take half a minute of load
WARM_UPS = 8
STEADY = 1.05
OPEN_S = 8.0
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: the systems and models in this order, each of the connection counts for `seconds`."""

    systems: Sequence[str]
    models: Sequence[str]
    rounds: int
    seconds: float

    def points(self, system: str, number: int) -> dict[str, list[Point]]:
        """Model → its closed loops in that round. What no figure to reach needs is measured in the first only."""
        is_first = number == 1
        only = {PENSTOCK: MODELS, PENSTOCK_TWO: ("linear",) if is_first else (), ECHO_CEILING.name: ("echo",)}
        models = only.get(system, MODELS if is_first else ("linear", "forest"))
        return {
            model: [Point(number, system, model, CLOSED, connections) for connections in CONNECTIONS[model]]
            for model in self.models
            if model in models
        }


class Campaign:
    """Measures what its file does not hold yet. A system that fails is told and left out: the others go on."""

    def __init__(self, console: Console, folder: Path, oha: Path) -> None:
        self._console = console
        self._file, self._hops_file = folder / FILE, folder / HOPS_FILE
        self._oha = oha
        self._known = read_measurements(self._file)
        self.failures: list[str] = []

    def run(self, plan: Plan) -> None:
        """What fails is tried once more at the end, and told if it fails again."""
        self._pass(plan)
        if self.failures:
            self.failures.clear()
            self._pass(plan)

    def _pass(self, plan: Plan) -> None:
        for number in range(1, plan.rounds + 1):
            for system in plan.systems:
                work = {model: self._missing(points) for model, points in plan.points(system, number).items()}
                self._measure_system(system, work, lambda target, point: closed_loop(target, point.level, plan.seconds))
        for system in plan.systems:
            work = {OPEN_MODEL: self._half_of_peak(system, OPEN_MODEL)} if OPEN_MODEL in plan.models else {}
            self._measure_system(system, work, lambda target, point: open_loop(self._oha, target, point.level, OPEN_S))

    def _missing(self, points: Sequence[Point]) -> list[Point]:
        known = {m.point for m in self._known}
        return [point for point in points if point not in known]

    def _half_of_peak(self, system: str, model: str) -> list[Point]:
        """An open loop at half of the best median over the rounds, once."""
        measured = (over_rounds(self._known, system, model, CLOSED, level, "per_second") for level in CONNECTIONS[model])
        peak = max((figure for figure in measured if figure), default=0.0)
        already = any((m.system, m.model, m.loop) == (system, model, OPEN) for m in self._known)
        return [] if already or peak < 2 else [Point(1, system, model, OPEN, round(peak / 2))]

    def _measure_system(self, system: str, work: dict[str, list[Point]], drive: Callable[[Target, Point], Load]) -> None:
        wanted = [model for model, points in work.items() if points]
        if not wanted:
            return
        try:
            with closing(_each_model(system, wanted)) as each:
                for model, running in each:
                    self._measure(running, work[model], drive)
        except Exception as error:  # noqa: BLE001  the others are measured all the same, and the end of the run is not a success
            self.failures.append(f"{system}: {error!r}"[:500])
            self._console.print(f"[red]{system} failed[/]: {error!r}", highlight=False, soft_wrap=True)

    def _measure(self, running: Running, points: Sequence[Point], drive: Callable[[Target, Point], Load]) -> None:
        _warm_up(running.target)
        for point in points:
            time.sleep(SETTLE_S)
            before = running.cpu_times()
            load = drive(running.target, point)
            after = running.cpu_times()
            self._keep(to_measurement(point, load, used_s(before, after)))
            if point.system in SETTINGS:
                for cost in hop_costs(before, after):
                    append_row(self._hops_file, to_hop_measurement(point, load, cost))

    def _keep(self, measured: Measurement) -> None:
        append_row(self._file, measured)
        self._known.append(measured)
        unit = "connections" if measured.loop == CLOSED else "requests/s due"
        self._console.print(
            f"{time.strftime('%H:%M:%S')} round {measured.round}  {measured.system:<19} {measured.model:<7} {measured.level:>5} {unit:<14} "
            f"{measured.per_second:>8,.0f}/s  p50 {measured.p50_ms:>6.1f}  p99 {measured.p99_ms:>7.1f} ms  "
            f"{measured.cpu_us:>6.0f} µs CPU  {measured.failed} failed",
            highlight=False,
            soft_wrap=True,
        )


def _warm_up(target: Target) -> None:
    """Until a run is no quicker than those before it, each system alike."""
    best = 0.0
    for _ in range(WARM_UPS):
        rate = closed_loop(target, WARM_UP_CONNECTIONS, WARM_UP_S).per_second
        if rate < best * STEADY:
            return
        best = rate


def _each_model(system: str, models: Sequence[str]) -> Generator[tuple[str, Running], None, None]:
    """One model after the other. Penstock's stack stays up between them; a peer is started for each."""
    if system in SETTINGS:
        with own_stack(SETTINGS[system]) as stack:
            for model in models:
                with _deployed(stack, model) as running:
                    yield model, running
        return
    for model in models:
        if system == ECHO_CEILING.name:
            peer, folder, expected = ECHO_CEILING, BUILT, json.loads(request_body())
        else:
            peer, folder = PEERS_BY_NAME[system], saved_model(model, BUILT / "models")
            expected = expected_predictions(folder)
        with running_peer(peer, folder, expected) as running:
            yield model, running


@contextmanager
def _deployed(stack: Stack, model: str) -> Iterator[Running]:
    folder = saved_model(model, BUILT / "models")
    body = BUILT / "body.json"
    body.write_bytes(request_body())
    with stack.serving(model, folder) as endpoint:
        answer = stack.ask(endpoint, request_body())
        if answer.json().get("predictions") != expected_predictions(folder):
            raise SystemFailed(f"penstock answers {answer.text[:300]}")
        yield Running(Target(stack.url(endpoint), body, token=stack.token), lambda: cpu_times(stack.status()))
