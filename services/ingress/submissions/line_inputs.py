"""Lines as an input: what types their values have, and who of them is no row. Pure but for what gives the lines."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from services.ingress.submissions.blocks import BLOCK_BYTES, BLOCK_ROWS, VALUE, Block, Input, distinct
from services.ingress.submissions.column_types import common_type, settled_type, to_array, type_of
from services.ingress.submissions.lines import Line
from services.shared.errors import ParameterInvalid


def of_lines(lines: Callable[[], Iterator[Line]]) -> Input:
    """They are read twice, since no row tells the type of the next one. As the first good one is, a record or a bare value, all are."""
    first = next((line for line in lines() if line.fault is None), None)
    if first is None:
        fault = next((line.fault for line in lines()), None)
        raise ParameterInvalid("The input holds no rows." + (f" {fault}" if fault else ""))
    if not isinstance(first.value, dict):
        return of_values(lambda: map(_no_record, lines()))
    kinds: dict[str, pa.DataType] = {}
    for some in _some(map(_only_record, lines())):
        for name, values in _columns(some).items():
            kinds[name] = common_type(kinds.get(name, pa.null()), type_of(values, objects=False))
    schema = pa.schema([(name, settled_type(kinds[name])) for name in distinct(list(kinds))])
    return Input("dataframe_split", schema, blocks_of(map(_only_record, lines()), schema))


def of_values(lines: Callable[[], Iterator[Line]]) -> Input:
    """Of rows without named columns, whatever they are."""
    kind = pa.null()
    for some in _some(lines()):
        kind = common_type(kind, type_of([line.value for line in some if line.fault is None], objects=False))
    schema = pa.schema([(VALUE, settled_type(kind))])
    return Input("inputs", schema, blocks_of(map(_as_column, lines()), schema))


def to_record(names: list[str], line: Line) -> Line:
    """Of a list of values."""
    if line.fault is not None:
        return line
    if not isinstance(line.value, list) or len(line.value) != len(names):
        held = f"{len(line.value)} values" if isinstance(line.value, list) else "no list of values"
        return line._replace(value=None, fault=f"{line.where} holds {held}; there are {len(names)} columns.")
    return line._replace(value=dict(zip(names, line.value, strict=True)))


def blocks_of(lines: Iterator[Line], schema: pa.Schema) -> Iterator[Block]:
    for some in _some(lines):
        rows = [line.value or {} for line in some]
        arrays = [to_array([row.get(field.name) for row in rows], field.type) for field in schema]
        faults = {position: line.fault for position, line in enumerate(some) if line.fault is not None}
        yield Block(pa.RecordBatch.from_arrays(arrays, schema=schema), faults)


def _only_record(line: Line) -> Line:
    if line.fault is not None or isinstance(line.value, dict):
        return line
    return line._replace(value=None, fault=f"{line.where} holds no object, as the first row does.")


def _no_record(line: Line) -> Line:
    if not isinstance(line.value, dict):
        return line
    return line._replace(value=None, fault=f"{line.where} holds an object, which the first row does not.")


def _as_column(line: Line) -> Line:
    return line if line.fault is not None else line._replace(value={VALUE: line.value})


def _columns(lines: list[Line]) -> dict[str, list[Any]]:
    """Values by column; a record that lacks one adds nothing to it."""
    found: dict[str, list[Any]] = {}
    for line in lines:
        for name, value in (line.value or {}).items():
            found.setdefault(name, []).append(value)
    return found


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
