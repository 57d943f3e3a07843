"""Columns as JSON, a text for each value: how rows travel to a model and how results are downloaded. Pure.

By columns, not by values, where Arrow can: a million rows pass here.
"""

import base64
import json
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from services.ingress.submissions.column_types import JSON


def json_texts(column: pa.Array) -> pa.Array:
    """No nulls are in it: they are the text `null`. As MLflow reads them: binary in base64, times in ISO 8601 without a zone (UTC).

    NaN is null, as it is for pandas; an infinity is a number that every parser takes for one.
    """
    return pc.fill_null(_texts(column), "null")


def joined(columns: list[pa.Array], separators: list[str]) -> list[str]:
    """Row by row, with a separator before each column's text and one at the end."""
    parts: list[Any] = [pa.scalar(separators[0])]
    for column, separator in zip(columns, separators[1:], strict=True):
        parts += [column, pa.scalar(separator)]
    found: list[str] = pc.binary_join_element_wise(*parts, "").to_pylist()
    return found


def to_plain(value: Any) -> Any:
    """What `json.dumps` asks of a value that it does not know."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else float(value)


def _texts(column: pa.Array) -> pa.Array:
    kind = column.type
    if kind == JSON:
        return column.storage
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_floating(kind):
        return _float_texts(column)
    if pa.types.is_timestamp(kind):
        return _quoted(pc.replace_substring(pc.cast(_in_utc(column), pa.string()), " ", "T"))
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return _quoted(pc.cast(column, pa.string()))
    values = [None if pairs is None else dict(pairs) for pairs in column.to_pylist()] if pa.types.is_map(kind) else column.to_pylist()
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    try:
        return json.dumps(value, default=to_plain, allow_nan=False)
    except ValueError:  # a NaN deep in it
        return json.dumps(_with_nulls(value), default=to_plain)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def _float_texts(column: pa.Array) -> pa.Array:
    texts = pc.cast(column, pa.string())
    whole = pc.invert(pc.match_substring_regex(texts, "[.en]"))
    texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)  # 1.0 stays a float without a signature, too
    if pc.all(pc.is_finite(column)).as_py() is not False:
        return texts
    texts = pc.if_else(pc.is_inf(column), pc.replace_substring(texts, "inf", "1e999"), texts)
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), texts)


def _in_utc(column: pa.Array) -> pa.Array:
    return pc.cast(column, pa.timestamp(column.type.unit))


def _quoted(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', texts, '"', "")
