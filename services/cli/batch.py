"""`penstock batch …`: many rows at once, from a file, a table or a query, scored behind the backs of online callers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.batch_orders import Order, order_of
from services.cli.batch_progress import follow
from services.cli.batch_views import batch_table, detail_view, is_running, outcome_of
from services.cli.endpoints import Name
from services.cli.failures import StackFailure
from services.cli.layout import cell, console, error_console, print_json
from services.cli.workspace import ApiToken, AsJson, Host, Workspace, path_of

batches = typer.Typer(help="Batches: many rows scored at once, each with its prediction or its error.", no_args_is_help=True)

BatchId = Annotated[str | None, typer.Argument(metavar="[ID]", help="the batch; without it the newest of the endpoint that you may see")]
File = Annotated[
    Path | None,
    typer.Argument(help="rows.ndjson, rows.csv or rows.parquet; a .json file is a scoring body; - reads NDJSON from standard input"),
]
TableIn = Annotated[str | None, typer.Option("--table", help="score all rows of this table, catalog.schema.table")]
Sql = Annotated[str | None, typer.Option("--sql", help="score what this SELECT finds")]
TableOut = Annotated[str | None, typer.Option("--output-table", help="also write the results to this new table, catalog.schema.table")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="the same key again finds the same batch, not a second one")]
Wait = Annotated[bool, typer.Option("--wait", help="wait until it has ended")]
ResultFile = Annotated[Path | None, typer.Option("--output", "-o", help="a file for them; .parquet asks for Parquet, all else is NDJSON")]


@batches.command()
def submit(
    name: Name,
    file: File = None,
    table: TableIn = None,
    sql: Sql = None,
    output_table: TableOut = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    as_json: AsJson = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Hand in a batch. It runs on whether one waits or not."""
    with order_of(file, table, sql, output_table) as order, Workspace(host, token) as workspace:
        batch = workspace.call("POST", path_of(name, "batches"), **sent(order, idempotency_key))
        if wait:
            batch = follow(workspace, batch)
        elif not as_json:
            error_console().print(f"`penstock batch wait {name} {batch['batch_id']}` shows how far it is")
        told(batch, as_json)


@batches.command()
def status(name: Name, batch_id: BatchId = None, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show how far a batch is."""
    with Workspace(host, token) as workspace:
        show(find(workspace, name, batch_id), as_json)


@batches.command()
def wait(name: Name, batch_id: BatchId = None, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Wait until a batch has ended; exit 1 where it failed or was canceled. Rows with an error are no failure of the batch."""
    with Workspace(host, token) as workspace:
        told(follow(workspace, find(workspace, name, batch_id)), as_json)


@batches.command()
def results(name: Name, batch_id: BatchId = None, output: ResultFile = None, host: Host = None, token: ApiToken = None) -> None:
    """Get the rows of a batch that has ended, with prediction, error and served entity: NDJSON, or Parquet into a file."""
    with Workspace(host, token) as workspace:
        batch = find(workspace, name, batch_id)
        path = path_of(name, "batches", batch["batch_id"], "results")
        if output is None:
            workspace.download(path, typer.get_binary_stream("stdout"), format="ndjson")
            return
        draft = output.with_name(f"{output.name}.part")
        with draft.open("wb") as file:
            workspace.download(path, file, format="parquet" if output.suffix == ".parquet" else "ndjson")
        draft.replace(output)


@batches.command()
def cancel(name: Name, batch_id: BatchId = None, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Stop a batch. What was scored of it by then can be had as its results."""
    with Workspace(host, token) as workspace:
        batch = find(workspace, name, batch_id)
        show(workspace.call("POST", path_of(name, "batches", batch["batch_id"], "cancel")), as_json)


@batches.command("list")
def list_batches(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show the batches of an endpoint that one may see, newest first."""
    with Workspace(host, token) as workspace:
        found = workspace.get(path_of(name, "batches"))["batches"]
    if as_json:
        print_json(found)
    elif found:
        console().print(batch_table(found))
    else:
        console().print(cell(f"there is no batch yet: `penstock batch submit {name} rows.ndjson` hands one in"))


def sent(order: Order, key: str | None) -> dict[str, Any]:
    headers = {"Content-Type": order.media_type} | ({"Idempotency-Key": key} if key else {})
    return {"content": order.content, "headers": headers, "params": order.parameters}


def find(workspace: Workspace, name: str, batch_id: str | None) -> dict[str, Any]:
    """Raises StackFailure where the newest is asked for, and there is none."""
    if batch_id is not None:
        found: dict[str, Any] = workspace.get(path_of(name, "batches", batch_id))
        return found
    listed: list[dict[str, Any]] = workspace.get(path_of(name, "batches"))["batches"]
    if not listed:
        raise StackFailure(f"'{name}' has no batch that you may see")
    return listed[0]


def show(batch: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(batch)
    else:
        console().print(detail_view(batch))


def told(batch: Mapping[str, Any], as_json: bool) -> None:
    """Raises StackFailure for one that ended badly."""
    show(batch, as_json)
    if not is_running(batch) and batch["state"] != "SUCCEEDED":
        raise StackFailure(outcome_of(batch))
