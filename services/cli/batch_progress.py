"""Waits until a batch has ended, with a bar on a terminal and a line now and then elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.cli.batch_views import done_of, is_running
from services.cli.failures import ApiRefusal
from services.cli.layout import error_console, instant
from services.cli.rollout import COME_AGAIN
from services.cli.workspace import Workspace, path_of

PAUSE_S = 0.5
LINE_S = 10.0  # between two lines that tell nothing but a number


class Meter(Protocol):
    def show(self, batch: Mapping[str, Any]) -> None: ...


def follow(workspace: Workspace, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch once it has ended. Interrupted, it goes on."""
    path = path_of(batch["endpoint_name"], "batches", batch["batch_id"])
    try:
        with meter_on(error_console()) as meter:
            meter.show(batch)
            while is_running(batch):
                time.sleep(PAUSE_S)
                batch = _asked(workspace, path) or batch
                meter.show(batch)
    except KeyboardInterrupt:
        error_console().print(f"the batch goes on: `penstock batch cancel {batch['endpoint_name']} {batch['batch_id']}` ends it")
        raise
    return batch


@contextmanager
def meter_on(console: Console) -> Iterator[Meter]:
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[end]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task("", total=None, end=""))


class Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, batch: Mapping[str, Any]) -> None:
        total = batch["counts"].get("rows")
        self._progress.update(self._task, description=batch["state"].lower(), completed=done_of(batch), total=total, end=estimate_of(batch))


class Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = ""
        self._told_at = 0.0

    def show(self, batch: Mapping[str, Any]) -> None:
        if batch["state"] == self._state and time.monotonic() < self._told_at + LINE_S:
            return
        self._state, self._told_at = batch["state"], time.monotonic()
        of_all = f" of {batch['counts']['rows']:,}" if "rows" in batch["counts"] else ""
        self._console.print(f"{batch['state'].lower()}: {done_of(batch):,}{of_all} rows {estimate_of(batch)}".rstrip())


def estimate_of(batch: Mapping[str, Any]) -> str:
    """Nothing once it is over: the results are being written then."""
    ends_ms = batch.get("estimated_end_timestamp", 0)
    return f"until about {instant(ends_ms)}" if ends_ms > time.time() * 1000 else ""


def _asked(workspace: Workspace, path: str) -> Mapping[str, Any] | None:
    """None: it cannot be told just now."""
    try:
        found: Mapping[str, Any] = workspace.get(path)
    except ApiRefusal as refusal:
        if refusal.status not in COME_AGAIN:
            raise
        time.sleep(refusal.retry_after_s or 1.0)
        return None
    return found
