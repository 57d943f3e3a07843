"""What a batch is given, as rows: inline JSON, an NDJSON, CSV or Parquet file. Block by block, so that a gigabyte fits.

A line that holds no row is a row with a fault, so that it keeps its number and gets an error of its own. What cannot be read at all
raises ParameterInvalid.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from services.ingress.submissions.column_types import common_type, settled_type, to_array, type_of
from services.ingress.submissions.plain_ndjson import NotPlain, plain_batches, plain_schema
from services.shared.errors import ParameterInvalid
from services.shared.settings import MIB

FileForm = Literal["INLINE", "NDJSON", "CSV", "PARQUET"]
MAX_ROW_BYTES = 16 * MIB  # no model takes more
BLOCK_ROWS = 2_000
BLOCK_BYTES = 8 * MIB

_INDEX = re.compile("__index_level_[0-9]+__")  # of a pandas frame, which no model was trained on
VALUE = "inputs"  # the one column of rows that have no names for theirs: lists, texts, numbers

RowForm = Literal["dataframe_split", "inputs", "csv"]  # how rows travel to the model


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow one another. In `rows` those with a fault are nulls; `faults` says why, by position."""

    rows: pa.RecordBatch
    faults: dict[int, str]


@dataclass(frozen=True, slots=True)
class Input:
    """Every block has `schema`. `blocks` can be read once."""

    form: RowForm
    schema: pa.Schema
    blocks: Iterator[Block]


class Line(NamedTuple):
    """One row as JSON has it, or the fault of a line that holds none; where it stands, and how long it is in the file."""

    where: str
    value: Any
    fault: str | None = None
    size: int = 0


def read_input(form: FileForm, file: Path) -> Input:
    """Raises ParameterInvalid for what cannot be read or holds no rows, also while the blocks are read."""
    match form:
        case "INLINE":
            return read_inline(json.loads(file.read_bytes()))
        case "NDJSON":
            return read_ndjson(file)
        case "CSV":
            return read_csv(file)
        case "PARQUET":
            return read_parquet(file)


def read_inline(body: dict[str, Any]) -> Input:
    """A scoring body: `dataframe_split`, `dataframe_records`, `inputs` or `instances` with a list of rows."""
    match body:
        case {"dataframe_records": [*records]}:
            return _of_lines(lambda: _numbered(records))
        case {"dataframe_split": {"columns": [*columns], "data": [*rows]}}:
            names = distinct([str(name) for name in columns])
            return _of_lines(lambda: (_to_record(names, row) for row in _numbered(rows)))
        case {"inputs": [*values]} | {"instances": [*values]}:
            return _of_values(lambda: _numbered(values))
    forms = "'dataframe_split', 'dataframe_records', or 'inputs' or 'instances' with a list of rows"
    raise ParameterInvalid(f"Inline rows come as one of {forms}.")


def read_ndjson(file: Path) -> Input:
    try:
        schema = plain_schema(file)
    except NotPlain:
        return _of_lines(lambda: ndjson_lines(file))
    return of_batches(schema, plain_batches(file, schema, BLOCK_ROWS))


def read_csv(file: Path) -> Input:
    """All columns are text: MLflow reads the values as it does those of a body in CSV, by the model's signature."""
    csv.field_size_limit(MAX_ROW_BYTES)
    header = next(csv_lines(file), None)
    if header is None or header.fault is not None:
        raise ParameterInvalid((header and header.fault) or "The CSV file is empty.")
    names = distinct(header.value)
    schema = pa.schema([(name, pa.string()) for name in names])
    return Input("csv", schema, _blocks((_to_record(names, line) for line in islice(csv_lines(file), 1, None)), schema))


def read_parquet(file: Path) -> Input:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(error) from error
    columns = [field for field in parquet.schema_arrow if not _INDEX.fullmatch(field.name)]
    return of_batches(pa.schema(columns), _parquet_batches(parquet, [field.name for field in columns]))


def _parquet_batches(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    batches = parquet.iter_batches(BLOCK_ROWS)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _no_parquet(error) from error
        if batch is None:
            return
        yield batch.select(columns)


def _no_parquet(error: Exception) -> ParameterInvalid:
    return ParameterInvalid(f"The file cannot be read as Parquet: {' '.join(str(error).split())}")


def of_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Input:
    """Of typed rows: a Parquet file, or what a query found."""
    distinct(schema.names)
    for field in schema:
        check_has_json_form(field.name, field.type)
    return Input("dataframe_split", schema, (Block(part, {}) for batch in batches for part in _sized(batch)))


def distinct(names: list[str]) -> list[str]:
    """The names as they are. Raises ParameterInvalid for a column that comes twice, or for none at all."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ParameterInvalid(f"The input has the column '{twice[0]}' twice.")
    if not names:
        raise ParameterInvalid("The rows of the input have no columns.")
    return names


def check_has_json_form(name: str, kind: pa.DataType) -> None:
    """Raises ParameterInvalid for a type that no scoring body can hold."""
    if pa.types.is_duration(kind) or pa.types.is_interval(kind) or pa.types.is_union(kind):
        raise ParameterInvalid(f"Column '{name}' has the type {kind}, which has no form in JSON.")
    for position in range(kind.num_fields):
        check_has_json_form(name, kind.field(position).type)


def ndjson_lines(file: Path) -> Iterator[Line]:
    """Blank lines are none."""
    with file.open("rb") as content:
        for number, raw in enumerate(_bounded_lines(content), start=1):
            where = f"Line {number}"
            if raw is None:
                yield Line(where, None, f"{where} is longer than {MAX_ROW_BYTES} bytes.")
            elif not raw.isspace():
                yield _parsed(where, raw)


def csv_lines(file: Path) -> Iterator[Line]:
    """The header is the first."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(f"Line {reader.line_num}", None, f"Line {reader.line_num} cannot be parsed as CSV: {error}.")
                continue
            if fields:
                yield _csv_line(f"Line {reader.line_num}", fields)


def _csv_line(where: str, fields: list[str]) -> Line:
    row = "".join(fields)
    try:
        row.encode()
    except UnicodeEncodeError:
        return Line(where, None, f"{where} is not UTF-8.")
    return Line(where, fields, size=len(row))


def _bounded_lines(content: IO[bytes]) -> Iterator[bytes | None]:
    """None for a line that is too long."""
    while raw := content.readline(MAX_ROW_BYTES + 1):
        if len(raw) <= MAX_ROW_BYTES:
            yield raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = content.readline(MAX_ROW_BYTES)
        yield None


def _parsed(where: str, raw: bytes) -> Line:
    try:
        return Line(where, json.loads(raw.decode("utf-8-sig")), size=len(raw))
    except UnicodeDecodeError:
        return Line(where, None, f"{where} is not UTF-8.")
    except (ValueError, RecursionError) as error:
        return Line(where, None, f"{where} cannot be parsed as JSON: {error}.")


def _numbered(values: list[Any]) -> Iterator[Line]:
    return (Line(f"Row {number}", value) for number, value in enumerate(values, start=1))


def _to_record(names: list[str], line: Line) -> Line:
    if line.fault is not None:
        return line
    if not isinstance(line.value, list) or len(line.value) != len(names):
        held = f"{len(line.value)} values" if isinstance(line.value, list) else "no list of values"
        return line._replace(value=None, fault=f"{line.where} holds {held}; there are {len(names)} columns.")
    return line._replace(value=dict(zip(names, line.value, strict=True)))


def _of_lines(lines: Callable[[], Iterator[Line]]) -> Input:
    """They are read twice, since no row tells the type of the next one. As the first good one is, a record or a bare value, all are."""
    first = next((line for line in lines() if line.fault is None), None)
    if first is None:
        fault = next((line.fault for line in lines()), None)
        raise ParameterInvalid("The input holds no rows." + (f" {fault}" if fault else ""))
    if not isinstance(first.value, dict):
        return _of_values(lines)
    kinds: dict[str, pa.DataType] = {}
    for some in _some(map(_only_record, lines())):
        for name, values in _columns(some).items():
            kinds[name] = common_type(kinds.get(name, pa.null()), type_of(values, objects=False))
    schema = pa.schema([(name, settled_type(kinds[name])) for name in distinct(list(kinds))])
    return Input("dataframe_split", schema, _blocks(map(_only_record, lines()), schema))


def _of_values(lines: Callable[[], Iterator[Line]]) -> Input:
    kind = pa.null()
    for some in _some(map(_only_value, lines())):
        kind = common_type(kind, type_of([line.value[VALUE] for line in some if line.fault is None], objects=False))
    schema = pa.schema([(VALUE, settled_type(kind))])
    return Input("inputs", schema, _blocks(map(_only_value, lines()), schema))


def _only_record(line: Line) -> Line:
    if line.fault is not None or isinstance(line.value, dict):
        return line
    return line._replace(value=None, fault=f"{line.where} holds no object, as the first row does.")


def _only_value(line: Line) -> Line:
    if line.fault is not None:
        return line
    if isinstance(line.value, dict):
        return line._replace(value=None, fault=f"{line.where} holds an object, which the first row does not.")
    return line._replace(value={VALUE: line.value})


def _columns(lines: list[Line]) -> dict[str, list[Any]]:
    """Values by column; a record that lacks one adds nothing to it."""
    found: dict[str, list[Any]] = {}
    for line in lines:
        for name, value in (line.value or {}).items():
            found.setdefault(name, []).append(value)
    return found


def _blocks(lines: Iterator[Line], schema: pa.Schema) -> Iterator[Block]:
    for some in _some(lines):
        rows = [line.value or {} for line in some]
        arrays = [to_array([row.get(field.name) for row in rows], field.type) for field in schema]
        faults = {position: line.fault for position, line in enumerate(some) if line.fault is not None}
        yield Block(pa.RecordBatch.from_arrays(arrays, schema=schema), faults)


def _sized(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Of as many rows as are read back at once."""
    rows = max(1, min(BLOCK_ROWS, batch.num_rows * BLOCK_BYTES // max(1, batch.nbytes)))
    return (batch.slice(first, rows) for first in range(0, batch.num_rows, rows))


def _some(lines: Iterator[Line]) -> Iterator[list[Line]]:
    some: list[Line] = []
    size = 0
    for line in lines:
        some.append(line)
        size += line.size
        if len(some) >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
