"""The demo's frame: a stack to run on, the job, and the verdict."""

import time

import typer

from services.cli import launch
from services.cli.demo.steps import console, step
from services.cli.progress import Progress
from services.cli.settings import load_stack_settings
from services.cli.status import read_status


def tell(*, keep: bool) -> None:
    """Start the stack unless it is up, do the job, compare. Raises typer.Exit(1) when anything differs from what was expected."""
    began = time.monotonic()
    settings = load_stack_settings()
    status = read_status(settings)
    was_up = status is not None
    if status is None:
        with step("start the stack", shows_itself=True), Progress(console) as progress:
            _, status = launch.up(settings, progress)
    try:
        with step("load MLflow, scikit-learn and databricks-sdk"):
            from services.cli.demo.job import do_the_job  # seconds of imports, after the stack is up
        faults = do_the_job(status)
    finally:
        if not (keep or was_up):
            with step("stop the stack", shows_itself=True), Progress(console) as progress:
                launch.down(settings, progress)
    for fault in faults:
        console.print(f"[red]✗[/] {fault}")
    if faults:
        raise typer.Exit(1)
    console.print(f"[bold green]✓ every answer, every row and every figure is as expected[/], in {time.monotonic() - began:.0f} s")
    _say_what_next(stays=keep or was_up)


def _say_what_next(*, stays: bool) -> None:
    if not stays:
        console.print("\nTo look around: [bold]make demo KEEP=1[/] leaves the stack up.")
        return
    console.print("\nThe stack is up. Go on with:")
    for command, meaning in (
        ("penstock status", "what runs, and where"),
        ('penstock sql "show tables"', "the inference tables there are; then select from one"),
        ("penstock logs scorer", "what the replicas say"),
        ("penstock down", "stop everything"),
    ):
        console.print(f"  [bold]{command:<28}[/]{meaning}", soft_wrap=True)
