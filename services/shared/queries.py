"""SQL over the inference tables: SELECT only, tables by their three-level names, any running stack or none."""

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import sqlglot
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from sqlglot import TokenType, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError

from services.shared.table_places import Place, StorageLost, list_tables, table_at

LISTED_TABLES = 10
MEMORY_LIMIT = "4GiB"
READ_ROWS = 10_000  # at a time
# What a query may reach is what is registered: no file, no network, no variable of this process, and no way to change that.
# DuckDB's files for what its memory does not hold would know no limit, and outlive a process that is killed: it has none.
SANDBOX: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY_LIMIT,
    "temp_directory": "",
}

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of statements it cannot look into; those are refused here anyway


class QueryRefused(Exception):
    """The query cannot be run as it is; `str()` is one line for the person who wrote it."""


class MemoryExhausted(QueryRefused):
    """The query holds more at once than it may: it sorts, joins or groups too much."""


@dataclass(frozen=True, slots=True)
class TableUse:
    """A table's name in the query's text, where it stands (`end` is exclusive), and what to write there."""

    name: str
    start: int
    end: int
    replacement: str


class Dialect(DuckDB):
    """DuckDB's SQL; names may be quoted as in the standard or, as Databricks' users do, with backticks."""

    class Tokenizer(DuckDB.Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012 (sqlglot's own way to say it)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a query leaves open: values of its `:name` parameters, and the catalog and schema of names with fewer than three levels."""

    values: Mapping[str, Any] = field(default_factory=dict)
    catalog: str = ""
    schema: str = ""


NOTHING_OPEN = Binding()


class Part(NamedTuple):
    """The rows of a table that have one of these values in the column: the others are not there."""

    column: str
    values: Sequence[str]


def run_query(
    tables: Place,
    sql: str,
    visible: Container[str] | None = None,
    binding: Binding = NOTHING_OPEN,
    row_limit: int | None = None,
    parts: Mapping[str, Part] = MappingProxyType({}),
) -> pa.Table:
    """Run one SELECT, or list the tables for SHOW TABLES. Raises QueryRefused, and sees what `query_reader` does."""
    if sql.strip().rstrip(";").strip().upper() == "SHOW TABLES":
        return pa.table({"table": pa.array(_visible(tables, visible)[:row_limit], pa.string())})
    with query_reader(tables, sql, visible, binding, row_limit, parts) as rows:
        return _with_whole_numbers(rows.read_all())


@contextmanager
def query_reader(
    tables: Place,
    sql: str,
    visible: Container[str] | None = None,
    binding: Binding = NOTHING_OPEN,
    row_limit: int | None = None,
    parts: Mapping[str, Part] = MappingProxyType({}),
) -> Iterator[pa.RecordBatchReader]:
    """Run one SELECT, over `visible` tables alone where that is given, and those in `parts` by that part: the rest is not there.
    Rows come as they are found, and no more are looked for than the limit needs.

    Functions are DuckDB's, JSON's among them. Raises QueryRefused, also while rows are read: anything but one SELECT, a table that
    is not there, or what DuckDB says of the query.
    """
    sql = with_parameters(sql, binding.values)
    uses = find_tables(sql, binding)
    known = _visible(tables, visible)
    if unknown := sorted({use.name for use in uses} - set(known)):
        raise QueryRefused(f"There is no table {unknown[0]}. {_listed(known)}")
    try:
        with duckdb.connect(":memory:", config=SANDBOX) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
            for name in {use.name for use in uses}:
                connection.register(_alias(name), _dataset(table_at(tables, name), parts.get(name)))
            found = connection.sql(with_replacements(sql, uses), params=dict(binding.values) or None)
            yield found.to_arrow_reader(READ_ROWS) if row_limit is None else _first(found, row_limit)
    except (duckdb.Error, DeltaError, ValueError, OSError) as error:
        text = " ".join(str(error).partition("\n\nLINE ")[0].split())
        if text.startswith("Out of Memory Error"):  # an error while rows are read is Arrow's, whatever it was
            raise MemoryExhausted(f"The query needs more than the {MEMORY_LIMIT} of memory it may have. Ask for less at once.") from error
        for use in uses:
            text = text.replace(_alias(use.name), use.name)
        raise QueryRefused(text) from error


def _dataset(table: str, part: Part | None) -> ds.Dataset:
    whole = DeltaTable(table).to_pyarrow_dataset()
    return whole if part is None else whole.filter(ds.field(part.column).isin(pa.array(part.values, pa.string())))


def _first(found: duckdb.DuckDBPyRelation, count: int) -> pa.RecordBatchReader:
    """As a limit of the query's own, which a sort makes use of; it would tell columns of one name apart."""
    rows = found.limit(count).to_arrow_reader(READ_ROWS)
    schema = pa.schema([column.with_name(name) for column, name in zip(rows.schema, found.columns, strict=True)])
    return pa.RecordBatchReader.from_batches(schema, (batch.rename_columns(found.columns) for batch in rows))


def _with_whole_numbers(rows: pa.Table) -> pa.Table:
    """A sum of integers comes as a decimal of 38 digits, which few programs take for a number."""
    for position, column in enumerate(rows.schema):
        if pa.types.is_decimal(column.type) and column.type.scale == 0:
            with suppress(pa.ArrowInvalid):  # too large for anything else
                rows = rows.set_column(position, column.name, rows.column(position).cast(pa.int64()))
    return rows


def _visible(tables: Place, visible: Container[str] | None) -> list[str]:
    try:
        return [name for name in list_tables(tables) if visible is None or name in visible]
    except StorageLost as lost:
        raise QueryRefused(str(lost)) from lost


def with_parameters(sql: str, names: Container[str]) -> str:
    """The query with DuckDB's `$name` for Databricks' `:name`, of these names alone: a colon has other meanings, too."""
    try:
        tokens = Dialect().tokenize(sql)
    except SqlglotError as error:
        raise QueryRefused(f"The query cannot be parsed: {' '.join(_plain(str(error)).split())}") from error
    for colon, name in zip(tokens[-2::-1], tokens[:0:-1], strict=True):  # from the end, so that places stay
        if colon.token_type is TokenType.COLON and name.text in names and name.start == colon.end + 1:
            sql = f"{sql[: colon.start]}${sql[name.start :]}"
    return sql


def find_tables(sql: str, binding: Binding = NOTHING_OPEN) -> list[TableUse]:
    """Every place where the query names a table. Raises QueryRefused for anything but one SELECT."""
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect=Dialect) if statement is not None]
    except SqlglotError as error:
        raise QueryRefused(f"The query cannot be parsed: {' '.join(_plain(str(error)).split())}") from error
    if len(statements) != 1:
        raise QueryRefused(f"One statement at a time: this is {len(statements)}.")
    query = statements[0]
    if not isinstance(query, exp.Query) or query.find(exp.Into, exp.DML, exp.DDL, exp.Command):
        raise QueryRefused("Only SELECT is allowed here.")
    defined = {cte.alias for cte in query.find_all(exp.CTE)}
    tables = [table for table in query.find_all(exp.Table) if not isinstance(table.this, exp.Func)]
    uses = [_table_use(table, binding) for table in tables if not (len(table.parts) == 1 and table.name in defined)]
    named = {use.name for use in uses}
    qualifiers = [_qualifier(column) for column in query.find_all(exp.Column) if column.catalog]
    return uses + [qualifier for qualifier in qualifiers if qualifier.name in named]  # others are fields of a struct


def with_replacements(sql: str, uses: Sequence[TableUse]) -> str:
    """The query with each table name replaced in place: everything else reaches DuckDB as it was written."""
    for use in sorted(uses, key=lambda use: use.start, reverse=True):
        sql = sql[: use.start] + use.replacement + sql[use.end :]
    return sql.strip().rstrip(";")


def _table_use(table: exp.Table, binding: Binding) -> TableUse:
    levels = [part.name for part in table.parts]
    parts = [level for level in (binding.catalog, binding.schema, "")[: 3 - len(levels)] if level] + levels
    name = ".".join(parts)
    if len(parts) != 3 or not isinstance(table.this, exp.Identifier):
        raise QueryRefused(f"Tables have three-level names (catalog.schema.table); {table.sql(dialect=Dialect)} has not.")
    # Without an alias of the user's, its columns may be qualified with its last name.
    replacement = _alias(name) if table.alias else f'{_alias(name)} AS "{parts[-1]}"'
    return TableUse(name, table.parts[0].meta["start"], table.parts[-1].meta["end"] + 1, replacement)


def _qualifier(column: exp.Column) -> TableUse:
    """`catalog.schema.table` before `.column`."""
    parts = column.parts[:3]
    return TableUse(".".join(part.name for part in parts), parts[0].meta["start"], parts[2].meta["end"] + 1, f'"{parts[2].name}"')


def _alias(name: str) -> str:
    return "penstock_" + name.encode().hex()


def _listed(known: Sequence[str]) -> str:
    if not known:
        return "There are no inference tables yet."
    more = f" and {len(known) - LISTED_TABLES} more" if len(known) > LISTED_TABLES else ""
    return f"There are: {', '.join(known[:LISTED_TABLES])}{more}."


def _plain(text: str) -> str:
    """sqlglot underlines the fault with terminal codes."""
    return text.replace("\x1b[4m", "").replace("\x1b[0m", "")
