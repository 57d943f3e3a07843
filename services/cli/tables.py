"""`penstock tables list|describe|history`: the inference tables in the state folder, whether the stack is up or not."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.failures import StackFailure
from services.cli.layout import cell, console, instant, print_json, table
from services.shared.settings import ServiceSettings, load_settings
from services.shared.table_places import StorageLost, in_one_line, list_tables, table_at

if TYPE_CHECKING:
    from deltalake import DeltaTable

tables = typer.Typer(help="Inference tables: what there is, their columns, who wrote when.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="catalog.schema.table, as `penstock tables list` shows it")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


@dataclass(frozen=True, slots=True)
class Extent:
    """`changed_ms` is when the newest version was committed."""

    name: str
    rows: int
    files: int
    size_bytes: int
    version: int
    changed_ms: int


@tables.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Show each table with its rows, files and size."""
    folder = _folder()
    extents = [extent_of(name, _opened(folder, name)) for name in _listed(folder)]
    if as_json:
        print_json([asdict(extent) for extent in extents])
        return
    shown = table("table", "rows", "files", "size", "version", "changed", right=("rows", "files", "size", "version"), wrapped=("table",))
    for extent in extents:
        numbers = (f"{extent.rows:,}", str(extent.files), to_size(extent.size_bytes), str(extent.version))
        shown.add_row(cell(extent.name), *numbers, instant(extent.changed_ms))
    console().print(shown)


@tables.command()
def describe(name: Name, as_json: AsJson = False) -> None:
    """Show a table's columns, where it lies and how it is kept."""
    folder = _folder()
    found = described(folder, name, _opened(folder, name))
    if as_json:
        print_json(found)
        return
    shown = table("column", "type")
    for column in found["columns"]:
        shown.add_row(cell(column["name"]), cell(column["type"]))
    console().print(shown)
    console().print(
        f"\n{found['rows']:,} rows in {found['files']} files, {to_size(found['size_bytes'])}, at {found['location']}", soft_wrap=True
    )
    kept = ", ".join(f"{key}={value}" for key, value in found["properties"].items())
    by = found["partitioned_by"]  # nothing, where a table holds the results of a batch
    console().print(f"partitioned by {', '.join(by)}; {kept}" if by else kept)


@tables.command()
def history(
    name: Name, limit: Annotated[int, typer.Option(min=1, help="the newest so many versions")] = 20, as_json: AsJson = False
) -> None:
    """Show the newest versions of a table, newest first: rows logged, files merged."""
    commits = [to_commit(commit) for commit in _opened(_folder(), name).history(limit)]
    if as_json:
        print_json(commits)
        return
    shown = table("version", "when", "what", "rows", right=("version", "rows"))
    for commit in commits:
        shown.add_row(str(commit["version"]), instant(commit["at_ms"]), cell(commit["operation"]), cell(commit["rows"]))
    console().print(shown)


def extent_of(name: str, opened: "DeltaTable") -> Extent:
    import pyarrow as pa

    files = pa.table(opened.get_add_actions(flatten=True))
    rows, size = sum(files["num_records"].to_pylist()), sum(files["size_bytes"].to_pylist())
    return Extent(name, rows, files.num_rows, size, opened.version(), opened.history(1)[0]["timestamp"])


def described(folder: str, name: str, opened: "DeltaTable") -> dict[str, Any]:
    import pyarrow as pa

    kept = opened.metadata()
    columns = [{"name": field.name, "type": str(field.type)} for field in pa.schema(opened.schema().to_arrow())]
    place = {"location": table_at(folder, name), "partitioned_by": kept.partition_columns, "properties": kept.configuration}
    return asdict(extent_of(name, opened)) | place | {"columns": columns}


def to_commit(commit: dict[str, Any]) -> dict[str, Any]:
    """`rows`: that were added; null for a commit that added none, as merging files does."""
    rows = (commit.get("operationMetrics") or {}).get("num_added_rows")
    return {"version": commit["version"], "at_ms": commit["timestamp"], "operation": commit["operation"], "rows": rows}


def to_size(size_bytes: int) -> str:
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size, unit = size_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


def _folder() -> str:
    return load_settings(ServiceSettings).tables_place


def _listed(folder: str) -> list[str]:
    """Raises StackFailure."""
    try:
        return list_tables(folder)
    except StorageLost as lost:
        raise StackFailure(str(lost)) from lost


def _opened(folder: str, name: str) -> "DeltaTable":
    """Raises StackFailure."""
    from deltalake import DeltaTable  # 0.25 s of imports, which other commands do without
    from deltalake.exceptions import DeltaError

    if name not in _listed(folder):
        raise StackFailure(f"there is no table {name}: `penstock tables list` shows those there are")
    try:
        return DeltaTable(table_at(folder, name))
    except DeltaError as error:
        raise StackFailure(f"table {name} cannot be opened: {in_one_line(error)}") from error
