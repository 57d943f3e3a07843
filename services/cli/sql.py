"""`penstock sql`: reads the inference tables, of the state folder whether the stack is up or not, or by the API of any stack."""

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.statements import select
from services.cli.workspace import ApiToken, Host, Workspace
from services.shared.errors import SettingsInvalid
from services.shared.settings import ServiceSettings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa

CELL_CHARS = 60  # a payload may be a megabyte; --json and --csv print all of it


def sql(
    query: Annotated[str, typer.Argument(help="one SELECT over catalog.schema.table names, or SHOW TABLES")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per row and line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header line")] = False,
    host: Host = None,
    token: ApiToken = None,
) -> None:
    """Query the inference tables: those of the state folder or, with a host or a token, by the API what that token may read."""
    if host or token:
        with Workspace(host, token) as workspace:
            rows = select(workspace, query)
    else:
        rows = select_here(query)
    if as_json:
        for row in rows.to_pylist():
            typer.echo(json.dumps(row, default=str))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(rows.column_names)
        writer.writerows([to_cell(value) for value in row.values()] for row in rows.to_pylist())
    else:
        Console().print(to_table(rows))


def select_here(query: str) -> "pa.Table":
    """Raises typer.Exit, having said why."""
    from services.shared.queries import QueryRefused, run_query  # 0.25 s of imports, which other commands do without

    try:
        return run_query(load_settings(ServiceSettings).tables_place, query)
    except (QueryRefused, SettingsInvalid) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2 if isinstance(error, SettingsInvalid) else 1) from error


def to_table(rows: "pa.Table") -> Table:
    """For people: numbers to the right, long texts cut."""
    import pyarrow as pa

    table = Table(caption=f"{rows.num_rows} row{'' if rows.num_rows == 1 else 's'}", caption_justify="left")
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if numeric else "left")
    for row in rows.to_pylist():
        table.add_row(*(Text(shortened(to_cell(value))) for value in row.values()))
    return table


def to_cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


def shortened(text: str) -> str:
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"
