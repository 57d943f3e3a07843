"""What the measurements say, as Markdown and plots: written from the CSV file alone, never by hand."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from bench.goals import SUBJECT, Verdict, judge, losses
from bench.measurements import (
    CLOSED,
    FILE,
    HOPS_FILE,
    OPEN,
    HopMeasurement,
    Measurement,
    over_rounds,
    read_hop_measurements,
    read_measurements,
)
from bench.places import BENCH, BUILT, PROJECT, RESULTS
from bench.setup import PLOTS

PAGE = PROJECT / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def write_report(console: Console, folder: Path) -> None:
    """`report.md` and plots in that folder; the figures of the docs' page too when it is the folder that is kept."""
    measurements = read_measurements(folder / FILE)
    if not measurements:
        console.print("nothing was measured")
        return
    text = to_markdown(measurements, read_hop_measurements(folder / HOPS_FILE), machine())
    (folder / "report.md").write_text(text)
    subprocess.run([BUILT / "environments" / PLOTS / "bin" / "python", BENCH / "plots.py", folder / FILE, folder], check=True)
    if folder.resolve() == RESULTS.resolve() and PAGE.exists():
        PAGE.write_text(_BLOCK.sub(lambda found: found[1] + "\n" + text + "\n" + found[2], PAGE.read_text()))
    for verdict in judge(measurements):
        console.print(
            f"{_mark(verdict):<6} {verdict.what}: {_measured(verdict)} (wanted {verdict.wanted})", highlight=False, soft_wrap=True
        )
    console.print(f"report: {folder / 'report.md'}", highlight=False, soft_wrap=True)


def to_markdown(measurements: Sequence[Measurement], hops: Sequence[HopMeasurement], machine: str) -> str:
    rounds = max(m.round for m in measurements)
    head = f"Medians over {rounds} round{'s' * (rounds > 1)}, {machine}."
    parts = [head, "### Figures to reach", goal_table(judge(measurements)), "### Throughput and latency", *_model_tables(measurements)]
    parts += ["### Open loop at half of each one's peak", open_table(measurements)]
    parts += ["### Where Penstock's CPU time goes", hop_table(hops), "### Where Penstock loses", _loss_list(measurements)]
    return "\n\n".join(parts) + "\n"


def goal_table(verdicts: Sequence[Verdict]) -> str:
    lines = [f"| {v.what} | {v.wanted} | {_measured(v)} | {_mark(v)} | {v.by_what} |" for v in verdicts]
    return "\n".join(["| what | wanted | measured | | of |", "|---|---|---|---|---|", *lines])


def closed_table(measurements: Sequence[Measurement], model: str) -> str:
    """Systems down, connections across: requests/s, then p50 and p99 in ms, then failed ones if any."""
    levels = sorted({m.level for m in measurements if m.loop == CLOSED and m.model == model})
    systems = list(dict.fromkeys(m.system for m in measurements if m.loop == CLOSED and m.model == model))
    head = "| requests/s (p50, p99 ms) | " + " | ".join(f"{level} conn." for level in levels) + " | CPU µs a request at 64 |"
    lines = [head, "|---" * (len(levels) + 2) + "|"]
    for system in systems:
        cells = [_cell(measurements, system, model, level) for level in levels]
        cpu_us = over_rounds(measurements, system, model, CLOSED, 64, "cpu_us")
        lines.append(f"| {system} | " + " | ".join(cells) + f" | {'' if cpu_us is None else f'{cpu_us:,.0f}'} |")
    return "\n".join(lines)


def open_table(measurements: Sequence[Measurement]) -> str:
    lines = ["| model | system | requests/s due | answered | p50 ms | p90 ms | p99 ms | failed |", "|---|---|---|---|---|---|---|---|"]
    for m in measurements:
        if m.loop == OPEN:
            latencies = f"{m.p50_ms:.1f} | {m.p90_ms:.1f} | {m.p99_ms:.1f}"
            lines.append(f"| {m.model} | {m.system} | {m.level:,} | {m.per_second:,.0f} | {latencies} | {m.failed} |")
    return "\n".join(lines)


def hop_table(hops: Sequence[HopMeasurement]) -> str:
    """CPU µs a request of each hop of Penstock, linear model, medians over the rounds."""
    mine = [h for h in hops if (h.system, h.model, h.loop) == (SUBJECT, "linear", CLOSED)]
    levels = sorted({h.level for h in mine})
    lines = ["| linear, CPU µs a request | " + " | ".join(f"{level} conn." for level in levels) + " |", "|---" * (len(levels) + 1) + "|"]
    for hop in dict.fromkeys(h.hop for h in mine):
        costs = [median(h.cpu_us for h in mine if (h.hop, h.level) == (hop, level)) for level in levels]
        lines.append(f"| {hop} | " + " | ".join(f"{cost:,.0f}" for cost in costs) + " |")
    return "\n".join(lines)


def _model_tables(measurements: Sequence[Measurement]) -> list[str]:
    models = dict.fromkeys(m.model for m in measurements)
    return [part for model in models for part in (f"**{model}**", closed_table(measurements, model))]


def _cell(measurements: Sequence[Measurement], system: str, model: str, level: int) -> str:
    names = ("per_second", "p50_ms", "p99_ms", "failed")
    per_second, p50, p99, failed = (over_rounds(measurements, system, model, CLOSED, level, name) for name in names)
    if per_second is None:
        return ""
    lost = f", {failed:.0f} failed" if failed else ""
    return f"**{per_second:,.0f}** ({p50:.1f}, {p99:.0f}{lost})"


def _loss_list(measurements: Sequence[Measurement]) -> str:
    return "\n".join(f"- {loss}" for loss in losses(measurements)) or "Nowhere in what was measured."


def _measured(verdict: Verdict) -> str:
    return "not measured" if verdict.measured is None else f"{verdict.measured:.2f} {verdict.unit}"


def _mark(verdict: Verdict) -> str:
    return {True: "holds", False: "missed", None: ""}[verdict.holds]


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, everything on one machine"
