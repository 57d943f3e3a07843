"""The results of a batch: a row for each of its rows, in their order, with prediction, error and served entity.

Written once, when the batch has ended: as Parquet and NDJSON in its folder, and as a Delta table where one was asked for. Only then
is it known which type all predictions have in common.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.ingress.lasting_files import put_lasting
from services.ingress.submissions.column_types import JSON, common_type, settled_type, to_array, type_of
from services.ingress.submissions.json_texts import joined, json_texts
from services.ingress.submissions.predictions import NOT_SCORED, NotByRow, RowError, read_predictions, row_error
from services.ingress.submissions.row_file import RowFile
from services.ingress.submissions.settled import Settled

OK = 200
RESULT_COLUMNS = ("prediction", "error", "served_entity")
ERROR = pa.struct([("error_code", pa.string()), ("message", pa.string())])
ReadSettled = Callable[[], Iterator[Settled]]


@dataclass(frozen=True, slots=True)
class Written:
    rows: int
    failed: int  # those with an error


@dataclass(frozen=True, slots=True)
class Results:
    """Of some rows that follow one another: a prediction or an error for each, and who was asked, if anybody was."""

    predictions: list[Any]
    errors: list[RowError | None]
    entities: list[str | None]

    def add(self, more: "Results") -> None:
        self.predictions.extend(more.predictions)
        self.errors.extend(more.errors)
        self.entities.extend(more.entities)


def write_results(rows: RowFile, settled: ReadSettled, parquet: Path, ndjson: Path) -> Written:
    """Whole or not at all; a repeat writes the same. `settled` gives them by their rows; it is read twice."""
    kind = prediction_type(rows, settled)
    schema = result_schema(rows.told_schema, kind)
    failed = 0
    drafts = parquet.with_suffix(".draft"), ndjson.with_suffix(".lines.draft")
    with pq.ParquetWriter(drafts[0], pa.schema([pa.field(f.name, _stored(f.type)) for f in schema])) as table, drafts[1].open("w") as lines:
        for first, found in _blocks(rows, settled):
            batch = to_batch(rows.inputs(first, len(found.predictions)), found, schema)
            failed += sum(error is not None for error in found.errors)
            lines.write(to_ndjson(batch))
            table.write_batch(to_stored(batch))
    put_lasting(drafts[0], parquet)
    put_lasting(drafts[1], ndjson)
    return Written(rows.rows, failed)


def prediction_type(rows: RowFile, settled: ReadSettled) -> pa.DataType:
    """One for the whole batch."""
    found = (results_of(rows, one.first, one.count, one).predictions for one in settled() if one.status == OK)
    return settled_type(reduce(common_type, (type_of(predictions, objects=True) for predictions in found), pa.null()))


def result_schema(inputs: pa.Schema, prediction: pa.DataType) -> pa.Schema:
    """Columns of the input come first; one that is named as a result is gets `input_` before its name."""
    taken = {*inputs.names, *RESULT_COLUMNS}
    fields = [pa.field(_free_name(f.name, taken) if f.name in RESULT_COLUMNS else f.name, f.type) for f in inputs]
    return pa.schema([*fields, *zip(RESULT_COLUMNS, (prediction, ERROR, pa.string()), strict=True)])


def results_of(rows: RowFile, first: int, count: int, settled: Settled | None) -> Results:
    """A result for each row; for none of them is one missing, whatever the answer was."""
    faults = rows.faults(first, count)
    errors: list[RowError | None] = [None] * count
    for number, fault in faults.items():
        errors[number - first] = RowError("INVALID_PARAMETER_VALUE", fault)
    good = [position for position, error in enumerate(errors) if error is None]
    predictions: list[Any] = [None] * count
    asked = (settled.served_entity or None) if settled else None
    entities = [None if error else asked for error in errors]
    try:
        said = _predictions(settled, count - len(faults))
    except _Failed as failed:
        for position in good:
            errors[position] = failed.error
    else:
        for position, prediction in zip(good, said, strict=True):
            predictions[position] = prediction
    return Results(predictions, errors, entities)


def to_batch(inputs: pa.RecordBatch, found: Results, schema: pa.Schema) -> pa.RecordBatch:
    errors = pa.array([error and asdict(error) for error in found.errors], ERROR)
    predictions = to_array(found.predictions, schema.field("prediction").type)
    arrays = [*inputs.columns, predictions, errors, pa.array(found.entities, pa.string())]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def to_ndjson(rows: pa.RecordBatch) -> str:
    """A line for each."""
    names = [json.dumps(name) for name in rows.schema.names]
    separators = [f"{{{names[0]}: ", *(f", {name}: " for name in names[1:]), "}\n"]
    return "".join(joined([json_texts(column) for column in rows.columns], separators))


def to_stored(rows: pa.RecordBatch) -> pa.RecordBatch:
    """With the types that tables have: JSON is text."""
    columns = [column.storage if column.type == JSON else column.cast(_stored(column.type)) for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


class _Failed(Exception):
    def __init__(self, error: RowError) -> None:
        super().__init__(error.message)
        self.error = error


def _predictions(settled: Settled | None, scored: int) -> list[Any]:
    if settled is None:
        raise _Failed(NOT_SCORED)
    if settled.status != OK:
        raise _Failed(row_error(settled.status, settled.body))
    try:
        return read_predictions(settled.body, scored)
    except NotByRow as error:
        raise _Failed(RowError("BAD_REQUEST", str(error))) from error


def _blocks(rows: RowFile, settled: ReadSettled) -> Iterator[tuple[int, Results]]:
    """Of all rows: the first of each block, and its results. Items are small where a model is slow, and blocks are not."""
    first, block = 0, Results([], [], [])
    for begin, count, one in _all_parts(rows, settled):
        block.add(results_of(rows, begin, count, one))
        if len(block.predictions) >= rows.block(first):
            yield first, block
            first, block = begin + count, Results([], [], [])
    if block.predictions:
        yield first, block


def _all_parts(rows: RowFile, settled: ReadSettled) -> Iterator[tuple[int, int, Settled | None]]:
    """First row, count, and what became of them: all rows, also those of which nothing is known."""
    at = 0
    for one in settled():
        yield from _gap(rows, at, one.first)
        yield one.first, one.count, one
        at = one.first + one.count
    yield from _gap(rows, at, rows.rows)


def _gap(rows: RowFile, first: int, end: int) -> Iterator[tuple[int, int, None]]:
    while first < end:
        count = min(rows.block(first), end - first)
        yield first, count, None
        first += count


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"input_{name}"
    return name


def _stored(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == JSON else kind
