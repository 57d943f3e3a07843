"""One Arrow type for each column of JSON values, whatever the parts of a batch hold. Pure.

What has no type in common (1 in one row, "one" in another) is JSON, Arrow's own extension type: each value as its own text.
"""

import json
from collections.abc import Iterable
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

JSON = pa.json_()
WHOLE = "^-?(0|[1-9][0-9]{0,17})$"
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def type_of(values: list[Any], *, objects: bool) -> pa.DataType:
    """The least type that holds all of them; JSON where there is none.

    Without `objects` what holds an object is JSON, too: Arrow's structs all have the same fields, and a null is not a missing one.
    """
    try:
        found = pa.array(values).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return JSON
    return found if _is_kept(found, objects=objects) else JSON


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Of values of both. Nothing but nulls goes with everything."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        items = common_type(one.value_type, other.value_type)
        return JSON if items == JSON else pa.list_(items)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = _common_fields([*one, *other])
        return JSON if JSON in fields.values() else pa.struct(list(fields.items()))
    return JSON


def settled_type(found: pa.DataType) -> pa.DataType:
    """As it is written: a column of nothing but nulls is text, since tables have no type for it."""
    if pa.types.is_null(found):
        return pa.string()
    if pa.types.is_list(found):
        return pa.list_(settled_type(found.value_type))
    if pa.types.is_struct(found):
        return pa.struct([(field.name, settled_type(field.type)) for field in found])
    return found


def type_in_texts(texts: pa.Array) -> pa.DataType:
    """What a column of CSV holds: whole numbers, numbers, or text. An empty one is nothing, and 007 is text."""
    told = texts.filter(pc.not_equal(texts, ""))
    if not len(told):
        return pa.null()
    for kind, pattern in ((pa.int64(), WHOLE), (pa.float64(), NUMBER)):
        if pc.all(pc.match_substring_regex(told, pattern)).as_py():
            return kind
    return pa.string()


def common_text_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    found = common_type(one, other)
    return pa.string() if found == JSON else found


def from_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Of a type that was found in them."""
    if pa.types.is_string(kind):
        return texts
    return pc.cast(pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts), kind)


def to_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """JSON values as an array of a type that was found for them."""
    if kind == JSON:
        return pa.ExtensionArray.from_storage(JSON, pa.array([None if v is None else json.dumps(v) for v in values], pa.string()))
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # a whole number beyond 2**53 among fractions
        return pa.array([_with_floats(value, kind) for value in values], kind)


def _is_kept(found: pa.DataType, *, objects: bool) -> bool:
    if pa.types.is_struct(found):
        return objects and found.num_fields > 0 and all(_is_kept(field.type, objects=True) for field in found)
    return _is_kept(found.value_type, objects=objects) if pa.types.is_list(found) else True


def _common_fields(fields: Iterable[pa.Field]) -> dict[str, pa.DataType]:
    return reduce(lambda found, f: {**found, f.name: common_type(found.get(f.name, pa.null()), f.type)}, fields, {})


def _with_floats(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_with_floats(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _with_floats(value.get(field.name), field.type) for field in kind}
    return float(value) if pa.types.is_floating(kind) else value
