"""`python -m bench`: what `make bench` runs, and its parts one by one."""

import signal
import sys
from pathlib import Path

import typer
from rich.console import Console

from bench.bulk import run_bulk
from bench.campaign import MODELS, SYSTEMS, Campaign, Plan
from bench.elasticity import PARTS, Lengths, run_elasticity
from bench.freshness import run_freshness
from bench.hops import run_hops
from bench.load import LoadToolMissing
from bench.measurements import FILE, HOPS_FILE
from bench.penstock import DeployFailed
from bench.places import RESULTS
from bench.report import write_report
from bench.setup import prepare
from bench.spark import ReadOtherwise, run_spark
from bench.steps import run_steps
from bench.systems import PEERS_BY_NAME

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.command()
def run(
    systems: str = typer.Option(",".join(SYSTEMS), help="Names, comma between."),
    models: str = typer.Option(",".join(MODELS), help="Names, comma between."),
    rounds: int = typer.Option(3, help="Rounds over all systems."),
    seconds: float = typer.Option(4.0, help="Seconds of each closed loop."),
    into: Path = typer.Option(RESULTS, help="Folder of measurements, tables and plots."),
    resume: bool = typer.Option(False, "--resume", help="Measure only what the folder's file does not hold yet."),
) -> None:
    """Compare: set up what is missing, measure, write the report."""
    plan = Plan(_chosen(systems, SYSTEMS), _chosen(models, MODELS), rounds, seconds)
    oha = prepare(console, [name for name in plan.systems if name in PEERS_BY_NAME])
    if not resume:
        for name in (FILE, HOPS_FILE):
            (into / name).unlink(missing_ok=True)
    campaign = Campaign(console, into, oha)
    campaign.run(plan)
    write_report(console, into)
    if campaign.failures:
        raise typer.Exit(1)


@app.command()
def report(into: Path = typer.Option(RESULTS, help="Folder of measurements.")) -> None:
    """Tables and plots anew, from the measurements there are."""
    prepare(console, [], with_oha=False)
    write_report(console, into)


@app.command()
def hops(
    model: str = typer.Option("linear", help="linear, forest, echo or waiting"),
    connections: int = 64,
    seconds: float = 8.0,
    state: Path | None = typer.Option(None, help="Folder of a stack that runs already."),
    settings: list[str] = typer.Option([], "--set", help="PENSTOCK_…=value, for the stack."),
    variables: list[str] = typer.Option([], "--entity", help="Variable of the served entity, NAME=value."),
) -> None:
    """CPU time per request of every hop."""
    run_hops(console, model, connections, seconds, state, _pairs(settings), _pairs(variables))


@app.command()
def bulk(
    model: str = typer.Option("linear", help="linear, forest, echo or waiting"),
    rows: int = typer.Option(1_000_000, help="Rows of the batch."),
    per_second: float = typer.Option(100, help="Online requests a second."),
    seconds: float = typer.Option(20.0, help="Seconds of each online load."),
) -> None:
    """What a batch costs online callers, and what it gets."""
    run_bulk(console, prepare(console, []), model, rows, per_second, seconds)


@app.command()
def freshness(
    per_second: float = typer.Option(500, help="Requests a second."),
    seconds: float = typer.Option(900.0, help="Seconds of load."),
) -> None:
    """How soon a request is a row, how many files a table has, and whether commits slow down with its age."""
    run_freshness(console, prepare(console, []), per_second, seconds)


@app.command()
def elasticity(
    parts: str = typer.Option(",".join(PARTS), help="Names, comma between."),
    wakes: int = typer.Option(20, help="Wakes from zero of each model."),
    minutes: float = typer.Option(10.0, help="Minutes of ramp and sawtooth."),
    into: Path = typer.Option(RESULTS, help="Folder of tables and plots."),
) -> None:
    """How a pool follows its load, from zero and back."""
    chosen = _chosen(parts, PARTS)
    prepare(console, ["ray"] if "ray" in chosen else [], with_oha=False)
    run_elasticity(console, chosen, into, Lengths(wakes=wakes, ramp_s=minutes * 60))


@app.command()
def spark() -> None:
    """Read an inference table with Spark, and compare."""
    run_spark(console)


@app.command()
def steps(model: str = typer.Option("linear", help="linear, forest, echo or waiting")) -> None:
    """CPU time of the steps inside the hops."""
    run_steps(console, model)


def _pairs(given: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in given)}


def _chosen(given: str, known: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in given.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    return names


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    try:
        app()
    except (DeployFailed, LoadToolMissing, ReadOtherwise) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
