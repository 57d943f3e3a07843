"""What a batch is given, as rows: inline JSON, an NDJSON, CSV or Parquet file. Block by block, so that a gigabyte fits.

A line that holds no row is a row with a fault, so that it keeps its number and gets an error of its own. What cannot be read at all
raises ParameterInvalid.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from services.ingress.submissions.blocks import BLOCK_ROWS, Input, distinct, of_batches
from services.ingress.submissions.line_inputs import blocks_of, of_lines, of_values, to_record
from services.ingress.submissions.lines import Line, csv_lines, ndjson_lines
from services.ingress.submissions.plain_ndjson import NotPlain, plain_batches, plain_schema
from services.shared.errors import ParameterInvalid

FileForm = Literal["INLINE", "NDJSON", "CSV", "PARQUET"]

_INDEX = re.compile("__index_level_[0-9]+__")  # of a pandas frame, which no model was trained on


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
            return of_lines(lambda: _numbered(records))
        case {"dataframe_split": {"columns": [*columns], "data": [*rows]}}:
            names = distinct([str(name) for name in columns])
            return of_lines(lambda: (to_record(names, row) for row in _numbered(rows)))
        case {"instances": [{}, *_] as records}:
            return of_lines(lambda: _numbered(records))
        case {"inputs": [*values]} | {"instances": [*values]}:
            return of_values(lambda: _numbered(values))
    forms = "'dataframe_split', 'dataframe_records', or 'inputs' or 'instances' with a list of rows"
    raise ParameterInvalid(f"Inline rows come as one of {forms}.")


def read_ndjson(file: Path) -> Input:
    try:
        schema = plain_schema(file)
    except NotPlain:
        return of_lines(lambda: ndjson_lines(file))
    return of_batches(schema, plain_batches(file, schema, BLOCK_ROWS))


def read_csv(file: Path) -> Input:
    """All columns are text: MLflow reads the values as it does those of a body in CSV, by the model's signature."""
    header = next(csv_lines(file), None)
    if header is None or header.fault is not None:
        raise ParameterInvalid((header and header.fault) or "The CSV file is empty.")
    names = distinct(header.value)
    schema = pa.schema([(name, pa.string()) for name in names])
    return Input("csv", schema, blocks_of((to_record(names, line) for line in islice(csv_lines(file), 1, None)), schema))


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


def _numbered(values: list[Any]) -> Iterator[Line]:
    return (Line(f"Row {number}", value) for number, value in enumerate(values, start=1))
