"""Bodies whose rows may stand in one frame with others' rows: the common forms, plainly typed. Pure.

A value passes when its column gets the same type from pandas, and it the same value from MLflow's cast, whatever else is in the
column. Nulls, NaN, dates and nested values do not: what they become depends on their neighbours.
"""

import json

from .frames import JSON_TYPE, client_request_id_in

PLAIN_JSON = (JSON_TYPE, JSON_TYPE + "; charset=utf-8", JSON_TYPE + ";charset=utf-8")
EXACT = 2**53  # whole numbers up to here are the same as doubles


def value_tests(schema):
    """Column name → test of a JSON value, for a signature of named columns of plain types; else None and the reason."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None, "the model has no signature with named columns"
    tests = {}
    for column in schema.inputs:
        test = _VALUE_TESTS.get(getattr(column.type, "name", ""))
        if test is None:
            return None, f"its signature has a column of type {column.type}"
        tests[column.name] = test
    return tests, ""


def _is_number(value) -> bool:
    return (type(value) is float and abs(value) < float("inf")) or (type(value) is int and abs(value) <= EXACT)


_VALUE_TESTS = {
    "double": _is_number,
    "float": _is_number,
    "integer": lambda value: type(value) is int and -(2**31) <= value < 2**31,
    "long": lambda value: type(value) is int and -(2**63) <= value < 2**63,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
}


def rows_of(content_type: str, body: bytes, tests):
    """(rows as lists in the signature's order, the client's id), or None unless the rows may stand among others'."""
    if content_type not in PLAIN_JSON:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    client_request_id = client_request_id_in(found)
    found.pop("client_request_id", None)
    if len(found) != 1:
        return None
    form, data = found.popitem()
    if form == "dataframe_split":
        rows = _rows_of_split(data, list(tests))
    elif form == "dataframe_records":
        rows = _rows_of_records(data, list(tests))
    else:
        return None
    if not rows or not all(all(map(test, column)) for test, column in zip(tests.values(), zip(*rows))):
        return None
    return rows, client_request_id


def _rows_of_split(data, names):
    if not isinstance(data, dict) or data.keys() != {"columns", "data"}:
        return None
    rows = data["data"]
    if data["columns"] != names or not isinstance(rows, list):
        return None
    return rows if all(isinstance(row, list) and len(row) == len(names) for row in rows) else None


def _rows_of_records(data, names):
    if not isinstance(data, list) or not all(isinstance(row, dict) and list(row) == names for row in data):
        return None
    return [list(row.values()) for row in data]
