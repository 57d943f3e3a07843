"""What the elasticity runs found, as Markdown, CSV and plots."""

import csv
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.arrivals import Answers
from bench.places import BENCH, BUILT, PROJECT, RESULTS
from bench.pool_watch import Sizes
from bench.report import machine
from bench.setup import PLOTS

PAGE = PROJECT / "docs" / "elasticity.md"
FILE = "elasticity.csv"
FIELDS = ("trace", "second", "rate", "p50_ms", "p99_ms", "wanted", "ready")
_BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """`holds` is None where nothing was demanded. `of_speed`: a machine that is slow enough misses it."""

    what: str
    wanted: str
    measured: str
    holds: bool | None
    of_speed: bool = False

    @property
    def mark(self) -> str:
        return "" if self.holds is None else "holds" if self.holds else "missed"


@dataclass(frozen=True, slots=True)
class Trace:
    """One row a second, in the order of FIELDS; "" where nothing was due, or seen."""

    rows: Sequence[tuple[str | float, ...]]

    @classmethod
    def of(cls, name: str, rate: Callable[[float], float], answers: Answers, sizes: Sizes) -> "Trace":
        rows: list[tuple[str | float, ...]] = []
        for second in range(int(answers.due_s[-1]) + 1):
            asked = answers.between(second, second + 1)
            size = next((s for s in sizes.seen if s.at - sizes.began >= second), None)
            times = [round(asked.quantile_s(share) * 1e3, 1) if len(asked.due_s) else "" for share in (0.5, 0.99)]
            rows.append((name, second, round(rate(second), 1), *times, *(("", "") if size is None else (size.wanted, size.ready))))
        return cls(rows)


def write_findings(console: Console, folder: Path, findings: Sequence[Finding], traces: Sequence[Trace]) -> None:
    """The table and the plots; the figures of the docs' page too when the folder is the one that is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    text = to_markdown(findings)
    (folder / "elasticity.md").write_text(text)
    if traces:
        with (folder / FILE).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([FIELDS, *(row for trace in traces for row in trace.rows)])
        subprocess.run(
            [BUILT / "environments" / PLOTS / "bin" / "python", BENCH / "elasticity_plots.py", folder / FILE, folder], check=True
        )
    if folder.resolve() == RESULTS.resolve() and PAGE.exists():
        PAGE.write_text(_BLOCK.sub(lambda found: found[1] + "\n" + text + "\n" + found[2], PAGE.read_text()))
    console.print(f"report: {folder / 'elasticity.md'}", highlight=False, soft_wrap=True)


def to_markdown(findings: Sequence[Finding]) -> str:
    lines = [f"| {f.what} | {f.wanted} | {f.measured} | {f.mark} |" for f in findings]
    return "\n".join([f"One run, {machine()}.", "", "| what | wanted | measured | |", "|---|---|---|---|", *lines]) + "\n"
