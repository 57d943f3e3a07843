"""The rows of a batch, in one Parquet file of its folder, whatever they came as: any part of them can be read at any time.

    kept = write_rows(read_input("NDJSON", folder / "upload"), folder / "rows.parquet")
    rows = RowFile(folder / "rows.parquet")
    part = rows.part(first=0, count=500)
    if part.scored:
        produce(part.body({"temperature": 0.1}))

Whatever order or types a file, a table or a query has, they are settled once, when the rows are written.
"""

import csv
import io
import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.ingress.lasting_files import put_lasting
from services.ingress.submissions.blocks import Input, RowForm
from services.ingress.submissions.column_types import common_text_type, from_texts, settled_type, type_in_texts
from services.ingress.submissions.json_texts import joined, json_texts
from services.shared.errors import ParameterInvalid
from services.shared.settings import GIB

MAX_BYTES = 4 * GIB  # of rows, compressed
FILE = "rows.parquet"
ROW, FAULT = "row", "fault"
FORM, TYPES = b"penstock.form", b"penstock.types"  # of columns of CSV, beside their results


@dataclass(frozen=True, slots=True)
class Kept:
    rows: int
    faulty: int  # lines of the input that hold no row; they have their numbers all the same


@dataclass(frozen=True, slots=True)
class Body:
    """What an item asks the model."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `first` to `first + count`. Those with a fault are in no body."""

    first: int
    count: int
    form: RowForm
    good: pa.RecordBatch
    faults: Mapping[int, str]  # row number → what is wrong with it

    @property
    def scored(self) -> int:
        """How many rows the body holds, and so how many predictions it asks for."""
        return int(self.good.num_rows)

    def body(self, params: Mapping[str, Any] | None = None) -> Body:
        return to_body(self.form, self.good, params)


class RowFile:
    """Reads one row group at a time, and keeps the last."""

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file)
        self._starts = _starts(self._file.metadata)
        self._group: tuple[int, pa.Table] | None = None
        self.rows = int(self._file.metadata.num_rows)
        self.form = cast(RowForm, self._file.schema_arrow.metadata[FORM].decode())
        self.schema = pa.schema(list(self._file.schema_arrow.field(ROW).type))
        self.told_schema = _told_schema(self.schema, self._file.metadata.metadata[TYPES])

    def part(self, first: int, count: int) -> Part:
        """Fewer rows than `count` at the end of the file."""
        count = min(count, self.rows - first)
        rows = self._read(first, count)
        good = rows.filter(pc.is_null(rows.column(FAULT))).column(ROW).combine_chunks()
        return Part(first, count, self.form, pa.RecordBatch.from_arrays(good.flatten(), schema=self.schema), self.faults(first, count))

    def faults(self, first: int, count: int) -> dict[int, str]:
        """By row number; none for a row that is one."""
        faults = self._read(first, count).column(FAULT)
        if faults.null_count == len(faults):
            return {}
        return {first + position: fault for position, fault in enumerate(faults.to_pylist()) if fault is not None}

    def block(self, first: int) -> int:
        """How many rows from this one on are read at once."""
        start, length = self._starts[self._group_of(first)]
        return start + length - first

    def inputs(self, first: int, count: int) -> pa.RecordBatch:
        """All of these rows by `told_schema`, as they stand beside their results: those with a fault are nulls."""
        columns = self._read(first, count).column(ROW).combine_chunks().flatten()
        told = [from_texts(column, f.type) if self.form == "csv" else column for column, f in zip(columns, self.told_schema, strict=True)]
        return pa.RecordBatch.from_arrays(told, schema=self.told_schema)

    def _read(self, first: int, count: int) -> pa.Table:
        parts, end = [], first + count
        while first < end:
            group = self._group_of(first)
            take = min(end - first, self.block(first))
            parts.append(self._read_group(group).slice(first - self._starts[group][0], take))
            first += take
        return pa.concat_tables(parts)

    def _group_of(self, row: int) -> int:
        return bisect_right(self._starts, row, key=itemgetter(0)) - 1

    def _read_group(self, group: int) -> pa.Table:
        if self._group is None or self._group[0] != group:
            self._group = (group, self._file.read_row_group(group))
        return self._group[1]


def write_rows(found: Input, file: Path, max_bytes: int = MAX_BYTES) -> Kept:
    """Whole or not at all. Raises ParameterInvalid for what cannot be read, has no rows, or is too much."""
    draft = file.with_suffix(".draft")
    schema = pa.schema([(ROW, pa.struct(list(found.schema))), (FAULT, pa.string())], metadata={FORM: found.form})
    rows = faulty = 0
    types: dict[str, pa.DataType] = {}
    try:
        with pq.ParquetWriter(draft, schema) as writer:
            for block in found.blocks:
                writer.write_batch(_to_batch(block.rows, block.faults, schema))
                if found.form == "csv":
                    types |= {f.name: _wider(types, f.name, block.rows.column(f.name)) for f in found.schema}
                rows, faulty = rows + block.rows.num_rows, faulty + len(block.faults)
                if draft.stat().st_size > max_bytes:
                    raise ParameterInvalid(f"The input is larger than {max_bytes} bytes as Parquet; submit it in parts.")
            writer.add_key_value_metadata({TYPES: json.dumps({name: str(settled_type(kind)) for name, kind in types.items()})})
    except pa.ArrowException as error:
        raise ParameterInvalid(f"The input cannot be read: {error}") from error
    if not rows:
        raise ParameterInvalid("The input holds no rows.")
    put_lasting(draft, file)
    return Kept(rows, faulty)


def to_body(form: RowForm, rows: pa.RecordBatch, params: Mapping[str, Any] | None = None) -> Body:
    """In the form that a caller would send them in; `params` go with each, but with CSV, which has no place for them."""
    if form == "csv":
        return Body("text/csv", _csv(rows))
    texts = [json_texts(column) for column in rows.columns]
    told = f', "params": {json.dumps(params)}' if params else ""
    if form == "inputs":
        return Body("application/json", f'{{"inputs": [{", ".join(texts[0].to_pylist())}]{told}}}'.encode())
    names = json.dumps(rows.schema.names)
    data = ", ".join(joined(texts, ["[", *[", "] * (len(texts) - 1), "]"]))
    return Body("application/json", f'{{"dataframe_split": {{"columns": {names}, "data": [{data}]}}{told}}}'.encode())


def _csv(rows: pa.RecordBatch) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.schema.names)
    writer.writerows(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return text.getvalue().encode()


def _to_batch(rows: pa.RecordBatch, faults: Mapping[int, str], schema: pa.Schema) -> pa.RecordBatch:
    told = pa.array([faults.get(position) for position in range(rows.num_rows)] if faults else pa.nulls(rows.num_rows), pa.string())
    return pa.RecordBatch.from_arrays([rows.to_struct_array(), told], schema=schema)


def _wider(types: Mapping[str, pa.DataType], name: str, texts: pa.Array) -> pa.DataType:
    return common_text_type(types.get(name, pa.null()), type_in_texts(texts))


def _told_schema(schema: pa.Schema, types: bytes) -> pa.Schema:
    told = json.loads(types)
    return pa.schema([pa.field(f.name, pa.type_for_alias(told[f.name]) if f.name in told else f.type) for f in schema])


def _starts(metadata: Any) -> list[tuple[int, int]]:
    starts, first = [], 0
    for group in range(metadata.num_row_groups):
        length = metadata.row_group(group).num_rows
        starts.append((first, length))
        first += length
    return starts
