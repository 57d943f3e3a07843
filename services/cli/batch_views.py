"""Batches as people read them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.layout import cell, instant, moment, table

Batch = Mapping[str, Any]

_COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red"}
_RUNNING = ("PENDING", "RUNNING", "CANCELING")


def is_running(batch: Batch) -> bool:
    return batch["state"] in _RUNNING


def done_of(batch: Batch) -> int:
    """Rows that have their prediction or their error."""
    return int(batch["counts"]["succeeded"] + batch["counts"]["failed"])


def outcome_of(batch: Batch) -> str:
    """One line on a batch that has ended."""
    counts = batch["counts"]
    if batch["state"] == "SUCCEEDED":
        return f"{counts['succeeded']:,} of {counts['rows']:,} rows were scored" + (
            f", {counts['failed']:,} have an error" if counts["failed"] else ""
        )
    ended = {"FAILED": "failed", "CANCELED": "was canceled"}[batch["state"]]
    return f"batch {batch['batch_id']} {ended}" + (f": {batch['message']}" if batch.get("message") else "")


def batch_table(batches: Sequence[Batch]) -> Table:
    laid = table("batch", "state", "rows", "scored", "errors", "by", "since", right=("rows", "scored", "errors"), wrapped=("by",))
    for batch in batches:
        counts = batch["counts"]
        rows = f"{counts['rows']:,}" if "rows" in counts else ""
        numbers = (rows, f"{counts['succeeded']:,}", f"{counts['failed']:,}")
        laid.add_row(cell(batch["batch_id"]), _state(batch), *numbers, cell(batch["creator"]), moment(batch["creation_timestamp"]))
    return laid


def detail_view(batch: Batch) -> RenderableType:
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, value in _facts(batch):
        facts.add_row(f"  {name}", cell(value))
    return Group(Text.assemble(cell(batch["batch_id"], "bold"), " · ", _state(batch)), facts)


def _facts(batch: Batch) -> Iterator[tuple[str, str]]:
    counts = batch["counts"]
    yield "endpoint", batch["endpoint_name"]
    if source := batch.get("source"):
        kind = source["kind"].lower()
        yield "rows of", str(source.get(kind, f"{kind}, {source.get('bytes', 0):,} bytes"))
    scored = f"{counts['succeeded']:,} scored, {counts['failed']:,} with an error"
    yield "rows", f"{counts['rows']:,}: {scored}" if "rows" in counts else scored
    yield "submitted", f"{instant(batch['creation_timestamp'])} by {batch['creator']}"
    if "end_timestamp" in batch:
        yield "ended", instant(batch["end_timestamp"])
    elif "estimated_end_timestamp" in batch:
        yield "done about", instant(batch["estimated_end_timestamp"])
    if "output_table" in batch:
        yield "table", batch["output_table"]
    if batch.get("message"):
        yield "message", batch["message"]


def _state(batch: Batch) -> Text:
    return cell(batch["state"].lower(), _COLOURS.get(batch["state"], "yellow"))
