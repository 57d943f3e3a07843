"""Load, replicas and latency of each trace, drawn. Runs in an environment of its own: `elasticity_plots.py elasticity.csv folder`."""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "penstock"  # the same figures give the same file
from matplotlib import pyplot  # noqa: E402

RATE, WANTED, READY, SLOW, USUAL = "#999999", "#1b6ca8", "#6aa9d8", "#c0392b", "#e6a39c"


def main(file: Path, folder: Path) -> None:
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for trace in dict.fromkeys(row["trace"] for row in rows):
        draw([row for row in rows if row["trace"] == trace], folder / f"elasticity_{trace}.svg")


def draw(rows: list[dict[str, str]], file: Path) -> None:
    """Requests/s and replicas above, latency below, over seconds."""
    drawing, (above, below) = pyplot.subplots(2, 1, figsize=(9, 5), sharex=True)
    above.plot(*_points(rows, "rate"), color=RATE, label="requests/s")
    above.set(ylabel="requests/s", ylim=(0, None))
    replicas = above.twinx()
    replicas.step(*_points(rows, "wanted"), where="post", color=WANTED, label="replicas wanted")
    replicas.step(*_points(rows, "ready"), where="post", color=READY, linestyle="--", label="replicas ready")
    replicas.set(ylabel="replicas", ylim=(0, None))
    lines = above.get_lines() + replicas.get_lines()
    above.legend(lines, [line.get_label() for line in lines], fontsize=7, loc="upper left")
    below.plot(*_points(rows, "p99_ms"), color=SLOW, label="p99 ms")
    below.plot(*_points(rows, "p50_ms"), color=USUAL, label="p50 ms")
    below.set(xlabel="seconds", ylabel="ms", yscale="log")
    below.legend(fontsize=7)
    below.grid(alpha=0.3)
    drawing.tight_layout()
    drawing.savefig(file, metadata={"Date": None})
    pyplot.close(drawing)


def _points(rows: list[dict[str, str]], name: str) -> tuple[list[float], list[float]]:
    known = [(float(row["second"]), float(row[name])) for row in rows if row[name]]
    return [at for at, _ in known], [value for _, value in known]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
