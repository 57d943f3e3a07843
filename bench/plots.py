"""Throughput and latency of a file of measurements, drawn. Runs in an environment of its own: `plots.py measurements.csv folder`."""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "penstock"  # the same figures give the same file
from matplotlib import pyplot  # noqa: E402

PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")
SHADES = ("#1b6ca8", "#6aa9d8", "#c3dcf0")
Figures = dict[tuple[str, str, str, int], dict[str, float]]  # (loop, model, system, level) → medians over the rounds


def main(file: Path, folder: Path) -> None:
    figures = read_figures(file)
    draw_throughput(figures, folder / "throughput.svg")
    draw_latency(figures, "closed", 64, "64 connections", folder / "latency.svg")
    draw_latency(figures, "open", None, "constant rate, half of each one's peak", folder / "latency_open.svg")


def read_figures(file: Path) -> Figures:
    rows: dict[tuple[str, str, str, int], list[dict[str, str]]] = defaultdict(list)
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            rows[row["loop"], row["model"], row["system"], int(row["level"])].append(row)
    names = ("per_second", *PERCENTILES)
    return {key: {name: median(float(row[name]) for row in found) for name in names} for key, found in rows.items()}


def draw_throughput(figures: Figures, file: Path) -> None:
    """Requests/s over connections, both logarithmic, one panel a model."""
    models = _distinct(model for loop, model, _, _ in figures if loop == "closed")
    drawing, panels = pyplot.subplots(1, len(models), figsize=(5 * len(models), 4), squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        for system in _distinct(s for loop, m, s, _ in figures if (loop, m) == ("closed", model)):
            points = sorted(
                (level, f["per_second"]) for (loop, m, s, level), f in figures.items() if (loop, m, s) == ("closed", model, system)
            )
            width = 2.5 if system.startswith("penstock") else 1.2
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=width, label=system)
        panel.set(title=model, xscale="log", yscale="log", xlabel="connections", ylabel="requests/s")
        panel.legend(fontsize=7)
        panel.grid(alpha=0.3)
    _save(drawing, file)


def draw_latency(figures: Figures, loop: str, level: int | None, title: str, file: Path) -> None:
    """Three percentiles a system, logarithmic, one panel a model. Nothing is written when nothing was measured."""
    wanted = {(m, s): f for (lo, m, s, le), f in figures.items() if lo == loop and level in (None, le)}
    models = _distinct(model for model, _ in wanted)
    if not models:
        return
    drawing, panels = pyplot.subplots(1, len(models), figsize=(5 * len(models), 4), squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        systems = [s for m, s in wanted if m == model]
        for number, (name, shade) in enumerate(zip(PERCENTILES, SHADES, strict=True)):
            places = [i + (number - 1) * 0.27 for i in range(len(systems))]
            panel.bar(places, [wanted[model, s][name] for s in systems], 0.27, label=name.removesuffix("_ms"), color=shade)
        panel.set_xticks(range(len(systems)), systems, rotation=30, fontsize=8)
        panel.set(title=f"{model}, {title}", yscale="log", ylabel="ms")
        panel.legend(fontsize=7)
        panel.grid(axis="y", alpha=0.3)
    _save(drawing, file)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _save(drawing: Any, file: Path) -> None:
    drawing.tight_layout()
    drawing.savefig(file, metadata={"Date": None})
    pyplot.close(drawing)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
