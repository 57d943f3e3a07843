"""Rows as all inputs give them: block by block, with one schema. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from services.shared.errors import ParameterInvalid
from services.shared.settings import MIB

BLOCK_ROWS = 2_000
BLOCK_BYTES = 8 * MIB
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


def _sized(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Of as many rows as are read back at once."""
    rows = max(1, min(BLOCK_ROWS, batch.num_rows * BLOCK_BYTES // max(1, batch.nbytes)))
    return (batch.slice(first, rows) for first in range(0, batch.num_rows, rows))
