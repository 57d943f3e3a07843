"""The held-out rows a hundred times over, as one batch: a Parquet file in by REST, a Delta table out."""

import io
import time
from typing import Any

import pandas as pd
from databricks.sdk import WorkspaceClient
from rich import box
from rich.table import Table

from services.cli.demo.ledger import BatchSummary
from services.cli.demo.models import HeldOut
from services.shared.queries import run_query
from services.shared.table_places import Place

COPIES = 100
PAUSE_S = 0.2
ENDED = ("SUCCEEDED", "FAILED", "CANCELED")


class BatchFailed(Exception):
    """The batch ended without results; `str()` is what the API says of it."""


def score_batch(workspace: WorkspaceClient, endpoint: str, held_out: HeldOut, output_table: str) -> None:
    """Returns when it has succeeded. Raises BatchFailed."""
    path = f"/api/2.0/serving-endpoints/{endpoint}/batches"
    rows = pd.concat([held_out.features.assign(row=range(len(held_out.labels)))] * COPIES)
    file = io.BytesIO()
    rows.to_parquet(file, index=False)
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    batch: Any = workspace.api_client.do("POST", path, query={"output_table": output_table}, headers=headers, data=file.getvalue())
    while batch["state"] not in ENDED:
        time.sleep(PAUSE_S)
        batch = workspace.api_client.do("GET", f"{path}/{batch['batch_id']}")
    if batch["state"] != "SUCCEEDED" or "message" in batch:
        raise BatchFailed(f"{batch['state']}: {batch.get('message', '')}")


def read_batch(tables: Place, output_table: str) -> list[BatchSummary]:
    """By served entity and held-out row: what was predicted, and how often."""
    sql = f'select served_entity, "row", prediction, count(*) as n, count(error) as errors from {output_table} group by all order by all'
    return [BatchSummary(*row.values()) for row in run_query(tables, sql).to_pylist()]


def batch_table(found: list[BatchSummary], output_table: str) -> Table:
    laid = Table(title=f"from {output_table}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("served entity", "rows", "errors"):
        laid.add_column(name, justify="left" if name == "served entity" else "right")
    for entity in sorted({summary.entity for summary in found}):
        mine = [summary for summary in found if summary.entity == entity]
        laid.add_row(entity, f"{sum(s.rows for s in mine):,}", str(sum(s.errors for s in mine)))
    return laid
