"""Rows of a statement as the statement-execution API tells them: column types, JSON arrays, CSV, Arrow streams. Pure."""

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from services.ingress.statement_folder import Format

CHUNK_BYTES = 4 * 1024 * 1024  # of rows as Arrow holds them

_NAMES = (
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int8, "BYTE"),
    (pa.types.is_int16, "SHORT"),
    (pa.types.is_int32, "INT"),
    (pa.types.is_integer, "LONG"),
    (pa.types.is_float32, "FLOAT"),
    (pa.types.is_floating, "DOUBLE"),
    (pa.types.is_decimal, "DECIMAL"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_timestamp, "TIMESTAMP"),
    (pa.types.is_null, "NULL"),
    (pa.types.is_binary, "BINARY"),
    (pa.types.is_large_binary, "BINARY"),
    (pa.types.is_map, "MAP"),
    (pa.types.is_struct, "STRUCT"),
    (pa.types.is_nested, "ARRAY"),
)


def chunks_of(rows: pa.Table) -> Iterator[pa.Table]:
    """At least one, so that a result without rows has its columns."""
    size = max(1, rows.num_rows * CHUNK_BYTES // rows.nbytes) if rows.nbytes else max(1, rows.num_rows)
    for start in range(0, max(1, rows.num_rows), size):
        yield rows.slice(start, size)


def columns_of(schema: pa.Schema) -> list[dict[str, Any]]:
    return [
        {"name": field.name, "position": position, "type_name": _type_name(field.type), "type_text": _type_text(field.type)}
        for position, field in enumerate(schema)
    ]


def to_json_rows(rows: pa.Table) -> list[list[str | None]]:
    """Every value as text, as Databricks has it; what is nested, as JSON."""
    columns = [[_text(value) for value in column.to_pylist()] for column in rows.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def to_bytes(rows: pa.Table, form: Format) -> bytes:
    """A chunk by itself, as an external link gives it."""
    if form == "ARROW_STREAM":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        return bytes(sink.getvalue())
    if form == "JSON_ARRAY":
        return json.dumps(to_json_rows(rows)).encode()
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows.column_names)
    writer.writerows(to_json_rows(rows))
    return text.getvalue().encode()


def _type_name(kind: pa.DataType) -> str:
    return next((name for is_of, name in _NAMES if is_of(kind)), "STRING")


def _type_text(kind: pa.DataType) -> str:
    name = _type_name(kind)
    if name == "ARRAY":
        return f"ARRAY<{_type_text(kind.value_type)}>"
    if name == "DECIMAL":
        return f"DECIMAL({kind.precision},{kind.scale})"
    return {"LONG": "BIGINT"}.get(name, name)


def _text(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
        case date():
            return value.isoformat()
        case list() | dict():
            return json.dumps(value, default=_text)
        case _:
            return str(value)
