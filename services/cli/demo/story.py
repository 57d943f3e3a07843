"""The demo's frame: a stack to run on, the job, and the verdict."""

import json
import subprocess
import sys
import time

import typer

from services.cli.demo.steps import console, step


def tell(*, keep: bool) -> None:
    """Start the stack unless it is up, do the job, compare. Raises typer.Exit(1) when anything differs from what was expected."""
    began = time.monotonic()
    was_up = _penstock("status", "--json", check=False).returncode == 0
    if not was_up:
        with step("start the stack"):
            _penstock("up", check=True, capture=False)
    try:
        with step("load MLflow, scikit-learn and databricks-sdk"):
            from services.cli.demo.job import do_the_job  # seconds of imports, after the stack is on its way
        faults = do_the_job(json.loads(_penstock("status", "--json", check=True).stdout))
    finally:
        if not (keep or was_up):
            with step("stop the stack"):
                _penstock("down", check=True)
    for fault in faults:
        console.print(f"[red]✗[/] {fault}")
    if faults:
        raise typer.Exit(1)
    console.print(f"[green]✓[/] every answer, every row and every figure as expected, in {time.monotonic() - began:.0f} s")
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
        console.print(f"  [bold]{command}[/]  {meaning}", soft_wrap=True)


def _penstock(*arguments: str, check: bool, capture: bool = True) -> "subprocess.CompletedProcess[str]":
    """The command itself, as a user types it."""
    done = subprocess.run([sys.executable, "-m", "services.cli", *arguments], capture_output=capture, text=True, check=False)
    if check and done.returncode:
        if capture:
            sys.stderr.write(done.stderr)
        raise typer.Exit(done.returncode)
    return done
