"""The figures to reach, and what was measured beside each. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measurements import CLOSED, OPEN, Measurement, over_rounds

SUBJECT = "penstock"
CEILING = "uvicorn"
NO_PEER = (SUBJECT, CEILING, "penstock-2")
GOAL_PER_SECOND = 25_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`measured` is None where something it needs was not measured. `by_what` says which figures it was made of."""

    what: str
    wanted: str
    measured: float | None
    unit: str
    holds: bool | None
    by_what: str


def judge(measurements: Sequence[Measurement]) -> list[Verdict]:
    """One verdict for each figure that issue 4 names, from the medians over the rounds."""

    def figure(system: str, model: str, level: int | None, name: str, loop: str = CLOSED) -> float | None:
        return over_rounds(measurements, system, model, loop, level, name)

    peers = peers_in(measurements)

    def best(model: str, level: int, name: str, pick: Callable[[list[float]], float]) -> tuple[float | None, str]:
        found = {peer: value for peer in peers if (value := figure(peer, model, level, name)) is not None}
        if not found:
            return None, "no peer was measured"
        value = pick(list(found.values()))
        return value, next(peer for peer, its in found.items() if its == value)

    def times(what: str, wanted: float, mine: float | None, theirs: float | None, of: str) -> Verdict:
        ratio = mine / theirs if mine is not None and theirs else None
        made_of = f"{_number(mine)} against {_number(theirs)} requests/s ({of})"
        return Verdict(what, f"≥ {wanted:g} ×", ratio, "×", None if ratio is None else ratio >= wanted, made_of)

    def under(what: str, bound: float, measured: float | None, unit: str, of: str) -> Verdict:
        return Verdict(what, f"< {bound:g} {unit}", measured, unit, None if measured is None else measured < bound, of)

    linear_64, forest_64 = figure(SUBJECT, "linear", 64, "per_second"), figure(SUBJECT, "forest", 64, "per_second")
    linear_256, echo_64 = figure(SUBJECT, "linear", 256, "per_second"), figure(SUBJECT, "echo", 64, "per_second")
    quickest, quickest_name = best("linear", 1, "p50_ms", min)
    p50_1 = figure(SUBJECT, "linear", 1, "p50_ms")
    open_p50, open_p99 = (figure(SUBJECT, "linear", None, name, OPEN) for name in ("p50_ms", "p99_ms"))
    cpu_us = figure(SUBJECT, "linear", 256, "cpu_us")
    return [
        times("linear, 64 connections, against mlflow serve", 40, linear_64, figure("mlflow", "linear", 64, "per_second"), "mlflow"),
        times("linear, 64 connections, against the best peer", 5, linear_64, *best("linear", 64, "per_second", max)),
        times("linear, 256 connections, against the best peer", 7, linear_256, *best("linear", 256, "per_second", max)),
        under(
            "linear, 1 connection, p50 of the quickest peer's",
            1,
            p50_1 / quickest if p50_1 is not None and quickest else None,
            "×",
            f"{_number(p50_1)} against {_number(quickest)} ms ({quickest_name})",
        ),
        times("echo, 64 connections, against a bare uvicorn echo", 0.4, echo_64, figure(CEILING, "echo", 64, "per_second"), CEILING),
        under("echo, 1 connection, p50", 3, figure(SUBJECT, "echo", 1, "p50_ms"), "ms", "closed loop"),
        under(
            "linear, open loop at half of the peak, p99 against p50",
            5,
            open_p99 / open_p50 if open_p99 is not None and open_p50 else None,
            "×",
            f"{_number(open_p99)} against {_number(open_p50)} ms",
        ),
        under("linear, open loop at half of the peak, p99", 25, open_p99, "ms", "the model's own time, under 1 ms, is in it"),
        times("forest, 64 connections, against the best peer", 2, forest_64, *best("forest", 64, "per_second", max)),
        under(
            f"cores for {GOAL_PER_SECOND:,} requests/s",
            16,
            cpu_us * GOAL_PER_SECOND / 1e6 if cpu_us is not None else None,
            "cores",
            f"{_number(cpu_us)} µs of CPU a request, linear, 256 connections, all processes of the stack",
        ),
    ]


def peers_in(measurements: Sequence[Measurement]) -> list[str]:
    return sorted({m.system for m in measurements} - set(NO_PEER))


def losses(measurements: Sequence[Measurement]) -> list[str]:
    """In words, every load at which a peer gave more requests/s, or a lower p50 or p99, than Penstock."""
    found = []
    for model, loop, level in sorted({(m.model, m.loop, m.level) for m in measurements if m.loop == CLOSED}):
        for name, unit, more_is_better in (("per_second", "requests/s", True), ("p50_ms", "ms p50", False), ("p99_ms", "ms p99", False)):
            mine = over_rounds(measurements, SUBJECT, model, loop, level, name)
            for peer in peers_in(measurements):
                theirs = over_rounds(measurements, peer, model, loop, level, name)
                if mine is not None and theirs is not None and (theirs > mine) == more_is_better and theirs != mine:
                    found.append(
                        f"{model}, {level} connection{'s' * (level > 1)}: {peer} {_number(theirs)} {unit}, Penstock {_number(mine)}"
                    )
    return found


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
