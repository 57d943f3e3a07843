"""`python -m bench`: what `make bench` runs, and its parts one by one."""

import sys
from pathlib import Path

import typer
from rich.console import Console

from bench.hops import run_hops
from bench.load import LoadToolMissing
from bench.penstock import DeployFailed

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.callback()
def bench() -> None:
    """Measurements of Penstock and its peers on this machine."""


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


def _pairs(given: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in given)}


if __name__ == "__main__":
    try:
        app()
    except (DeployFailed, LoadToolMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
