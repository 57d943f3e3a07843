"""The table: bodies for each model of the suite, each with the deviation it shows, if any."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.pyfunc.scoring_server import CONTENT_TYPE_PARQUET

from tests.conformance.models import GIFTS, TYPES

JSON, CSV = "application/json", "text/csv"


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `deviation`: a row of the table in docs/fidelity.md; without one, the answers are equal to the letter."""

    id: str
    body: bytes
    content_type: str = JSON
    deviation: str | None = None
    method: str = "POST"


def _case(name: str, body: Any, content_type: str = JSON, deviation: str | None = None) -> Case:
    """`body` as it is, if it is bytes or text; else as JSON."""
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    return Case(name, text if isinstance(text, bytes) else text.encode(), content_type, deviation)


def _split(columns: list[Any], *rows: Any, **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": rows, **more}}


def _records(*records: Any) -> dict[str, Any]:
    return {"dataframe_records": records}


ROW = _records({"x": 1.5})
FIVE_HUNDRED_DEEP = b'{"dataframe_records": [{"x": ' + b"[" * 500 + b"]" * 500 + b"}]}"
TOO_DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# One double column `x`, params `offset` and `sleep_s`: these go through the whole stack as well.
AFFINE = [
    _case("split", _split(["x"], [1.0], [2.5])),
    _case("split with an index", _split(["x"], [1.0], [2.5], index=[7, 8])),
    _case("split with an index of another length", _split(["x"], [1.0], index=[7, 8])),
    _case("split without columns", {"dataframe_split": {"data": [[1.0]]}}),
    _case("split without data", {"dataframe_split": {"columns": ["x"]}}),
    _case("split with an extra key", _split(["x"], [1.0], name="n")),
    _case("split that is a list", {"dataframe_split": [[1.0]]}),
    _case("split that is a number", {"dataframe_split": 1}),
    _case("split that is null", {"dataframe_split": None}),
    _case("split with ragged rows", _split(["x", "y"], [1.0, 2.0], [3.0])),
    _case("split with rows wider than its columns", _split(["x"], [1.0, 2.0])),
    _case("split with a flat row", _split(["x"], 1.0, 2.0)),
    _case("split with no rows", _split(["x"])),
    _case("split with an empty row", _split(["x"], [])),
    _case("split with a column twice", _split(["x", "x"], [1.0, 2.0])),
    _case("split with an extra column", _split(["y", "x"], [1.0, 2.0])),
    _case("split with a number for a column name", _split([1], [1.0])),
    _case("split with data that is an object", {"dataframe_split": {"columns": ["x"], "data": {"x": [1.0]}}}),
    _case("records", _records({"x": 1.0}, {"x": 2.5})),
    _case("records that are an object", {"dataframe_records": {"x": 1.0}}),
    _case("records that are a number", {"dataframe_records": 1}),
    _case("records with no record", _records()),
    _case("records with an empty record", _records({})),
    _case("records of which one lacks the column", _records({"x": 1.0}, {}), deviation="nan-is-null"),
    _case("records with an extra column", _records({"x": 1.0, "y": "a"})),
    _case("records without the column", _records({"y": 1.0})),
    _case("records that are rows", _records([1.0])),
    _case("records that are numbers", _records(1.0)),
    _case("records with a key twice", b'{"dataframe_records": [{"x": 1.0, "x": 2.0}]}'),
    _case("an integer for a double", _records({"x": 1})),
    _case("an integer beyond 2**53 for a double", _records({"x": 2**53 + 1})),
    _case("an integer beyond 64 bits for a double", _records({"x": 2**70})),
    _case("an integer of 5,000 digits", b'{"dataframe_records": [{"x": ' + b"9" * 5000 + b"}]}", deviation="unreadable-input"),
    _case("a text for a double", _records({"x": "a"})),
    _case("a number as text for a double", _records({"x": "1.5"})),
    _case("a boolean for a double", _records({"x": True})),
    _case("a list for a double", _records({"x": [1.0]})),
    _case("an object for a double", _records({"x": {"a": 1.0}})),
    _case("null for a double", _records({"x": None}), deviation="nan-is-null"),
    _case("null beside a number", _records({"x": None}, {"x": 1.0}), deviation="nan-is-null"),
    _case("the token NaN", b'{"dataframe_records": [{"x": NaN}]}', deviation="nan-is-null"),
    _case("the token Infinity", b'{"dataframe_records": [{"x": Infinity}]}', deviation="nan-is-null"),
    _case("the token -Infinity, which the model refuses", b'{"dataframe_records": [{"x": -Infinity}]}'),
    _case("a number too large to be one", b'{"dataframe_records": [{"x": 1e999}]}', deviation="nan-is-null"),
    _case("minus zero", _records({"x": -0.0})),
    _case("what the model raises on", _records({"x": -1.0})),
    _case("instances of rows", {"instances": [[1.0], [2.5]]}),
    _case("instances of numbers", {"instances": [1.0, 2.5]}),
    _case("instances of objects", {"instances": [{"x": 1.0}, {"x": 2.5}]}),
    _case("instances of objects of which one lacks the column", {"instances": [{"x": 1.0}, {}]}),
    _case("instances that are empty", {"instances": []}),
    _case("instances that are an object", {"instances": {"x": [1.0]}}),
    _case("inputs by column", {"inputs": {"x": [1.0, 2.5]}}),
    _case("inputs by column, a scalar", {"inputs": {"x": 1.0}}),
    _case("inputs by column, nested", {"inputs": {"x": [[1.0], [2.5]]}}),
    _case("inputs that are a list", {"inputs": [1.0, 2.5]}),
    _case("inputs that are rows", {"inputs": [[1.0], [2.5]]}),
    _case("inputs that are records", {"inputs": [{"x": 1.0}]}),
    _case("inputs that are ragged", {"inputs": [[1.0], [2.5, 3.0]]}),
    _case("inputs that are a text", {"inputs": "a"}),
    _case("inputs that are a number", {"inputs": 1.0}),
    _case("inputs that are null", {"inputs": None}),
    _case("inputs without the column", {"inputs": {"y": [1.0]}}),
    _case("a param", {**ROW, "params": {"offset": 0.5}}),
    _case("a param that is an integer", {**ROW, "params": {"offset": 1}}),
    _case("a param that is a text", {**ROW, "params": {"offset": "a"}}),
    _case("a param that is null", {**ROW, "params": {"offset": None}}),
    _case("a param that is a list", {**ROW, "params": {"offset": [1.0]}}),
    _case("a param nobody knows", {**ROW, "params": {"other": 1}}),
    _case("a param nobody knows beside one that is known", {**ROW, "params": {"other": 1, "offset": 0.5}}),
    _case("params that are empty", {**ROW, "params": {}}),
    _case("params that are null", {**ROW, "params": None}),
    _case("params that are a list", {**ROW, "params": [1]}),
    _case("params that are a text", {**ROW, "params": "offset"}),
    _case("a client's id", {**ROW, "client_request_id": "mine"}),
    _case("a client's id that is a number", {**ROW, "client_request_id": 7}),
    _case("a client's id that is an object", {**ROW, "client_request_id": {"a": [1]}}),
    _case("a client's id that is null", {**ROW, "client_request_id": None}),
    _case("a client's id beside nothing", {"client_request_id": "mine"}),
    _case("keys nobody knows", {**ROW, "usage_context": {"a": "b"}, "extra_params": {"c": 1}, "databricks_options": {}}),
    _case("a stream is asked for", {**ROW, "stream": True}),
    _case("two data keys", {**ROW, "inputs": {"x": [1.0]}}),
    _case("four data keys", {**ROW, **_split(["x"], [1.0]), "inputs": {"x": [1.0]}, "instances": [[1.0]]}),
    _case("a data key twice", b'{"inputs": {"x": [1.0]}, "inputs": {"x": [2.0]}}'),
    _case("no data key", {"x": 1.0}),
    _case("a data key in capitals", {"INPUTS": {"x": [1.0]}}),
    _case("an empty object", {}),
    _case("a list", [1.0]),
    _case("a text", '"a"'),
    _case("a number", "1"),
    _case("a boolean", "true"),
    _case("null", "null"),
    _case("NaN", "NaN"),
    _case("nothing", b""),
    _case("blanks", b" \n"),
    _case("what is not JSON", b"{nope"),
    _case("JSON with more behind it", b'{"inputs": {"x": [1.0]}} x'),
    _case("JSON with a comma too many", b'{"inputs": {"x": [1.0],}}'),
    _case("a newline inside a text", b'{"inputs": {"x": ["a\nb"]}}'),
    _case("bytes that are no text", b'{"inputs": {"x": ["\xff"]}}'),
    _case("a byte order mark", b'\xef\xbb\xbf{"inputs": {"x": [1.0]}}'),
    _case("UTF-16", '{"inputs": {"x": [1.0]}}'.encode("utf-16")),
    _case("a null byte in a text", b'{"dataframe_records": [{"x": "\\u0000"}]}'),
    _case("letters of everywhere", _records({"x": "é日本🚰"})),
    _case("500 lists deep", FIVE_HUNDRED_DEEP),
    _case("100,000 lists deep", TOO_DEEP, deviation="unreadable-input"),
    _case("600 rows", _split(["x"], *([float(n)] for n in range(600)))),
    _case("unified LLM input: messages", {"messages": [{"role": "user", "content": "hello"}]}),
    _case("unified LLM input: prompt", {"prompt": "hello"}),
    _case("unified LLM input: input and a param", {"input": "hello", "offset": 1.0}),
    _case("unified LLM input that is the column", {"x": [1.0], "input": "hello"}),
    _case("CSV", "x\n1.0\n2.5\n", CSV),
    _case("CSV without an end of line", "x\n1.0", CSV),
    _case("CSV with Windows ends of line", "x\r\n1.0\r\n2.5\r\n", CSV),
    _case("CSV without a header", "1.0\n2.5\n", CSV),
    _case("CSV with a header only", "x\n", CSV),
    _case("CSV that is empty", "", CSV),
    _case("CSV with blanks around the header", " x \n1.0\n", CSV),
    _case("CSV with a quoted header", '"x"\n"1.0"\n', CSV),
    _case("CSV with a byte order mark", b"\xef\xbb\xbfx\n1.0\n", CSV),
    _case("CSV with an extra column", "y,x\na,1.0\n", CSV),
    _case("CSV with an index column", ",x\n0,1.0\n1,2.5\n", CSV),
    _case("CSV with a column twice", "x,x\n1.0,2.0\n", CSV),
    _case("CSV with ragged rows", "x,y\n1.0\n1.0,2.0,3.0\n", CSV),
    _case("CSV with an empty field", "x,y\n,1\n", CSV, deviation="nan-is-null"),
    _case("CSV with blank lines", "x\n\n1.0\n\n2.5\n", CSV),
    _case("CSV with a text for a double", "x\na\n", CSV),
    _case("CSV with an open quote", 'x\n"1.0\n', CSV),
    _case("CSV with other separators", "x;y\n1.0;2.0\n", CSV),
    _case("CSV that is JSON", '{"inputs": {"x": [1.0]}}', CSV),
    _case("CSV that is no text", b"x\n\xff\n", CSV),
    _case("CSV with its charset", "x\n1.0\n", "text/csv; charset=utf-8"),
    _case("CSV with a parameter", "x\n1.0\n", "text/csv; header=present", deviation="text-in-an-envelope"),
    _case("a charset", ROW, "application/json; charset=utf-8"),
    _case("a charset in capitals and without a blank", ROW, "application/json;charset=UTF-8"),
    _case("a charset in quotes", ROW, 'application/json; charset="utf-8"', deviation="text-in-an-envelope"),
    _case("another charset", ROW, "application/json; charset=latin-1", deviation="text-in-an-envelope"),
    _case("an unknown parameter", ROW, "application/json; version=1", deviation="text-in-an-envelope"),
    _case("a semicolon and nothing", ROW, "application/json;", deviation="text-in-an-envelope"),
    _case("a content type in capitals", ROW, "Application/JSON", deviation="text-in-an-envelope"),
    _case("a content type that begins like JSON", ROW, "application/json-patch+json", deviation="text-in-an-envelope"),
    _case("a content type nobody knows", "<x/>", "text/xml", deviation="text-in-an-envelope"),
    _case("a content type that is a word", ROW, "json", deviation="text-in-an-envelope"),
]

# Only a door can see these: a worker is given a body with its content type.
AT_THE_DOOR = [
    _case("no content type", ROW, "", deviation="no-content-type"),
    Case("GET", b"", deviation="other-method", method="GET"),
    Case("PUT", b'{"inputs": {"x": [1.0]}}', deviation="other-method", method="PUT"),
]

VALUES: dict[str, list[Any]] = {
    "boolean": [True, False, None, 1, 0, 1.0, "true", "yes", [True]],
    "integer": [1, -1, None, 2**31, 2**63, 1.0, 1.5, "1", True],
    "long": [1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), None, 1.0, 1.5, "1", "a", False],
    "float": [1, 1.5, 0.1, 1e40, 2**40, None, "1.5", True],
    "double": [1, 1.5, 0.1, 1e308, 2**70, None, "1.5", "a"],
    "string": ["a", "", "é🚰", None, 1, 1.5, True, ["a"], {"a": 1}],
    "binary": ["AAH/", "", "AA", "not base64 at all!", None, 1, ["AAH/"]],
    "datetime": [
        "2026-01-02",
        "2026-01-02T03:04:05.678901",
        "2026-01-02 03:04:05+02:00",
        "2026-01-02T03:04:05Z",
        "2026-13-45",
        "yesterday",
        "9999-12-31T23:59:59",
        1767323045,
        1.5,
        None,
        True,
    ],
}
PARAMS: dict[str, list[Any]] = {
    "k": [1, 2**63, 1.0, 1.5, "1", True, None, [1]],
    "small": [1, 2**31, 1.5],
    "ratio": [1, 0.25, "0.25", True, 2**70],
    "rough": [1, 0.1, 1e40],
    "word": ["b", 1, None, ["b"]],
    "flag": [True, 0, "true"],
    "when": ["2026-01-02T03:04:05", "yesterday", 1],
    "many": [[3, 4, 5], [], 3, ["a"], [1.5], [[1]], None],
    "deep": [{"a": 2}, {"a": "b"}, {}, {"a": 2, "b": 3}, 1],
}


def _typed() -> Iterator[Case]:
    for kind in TYPES:
        for value in VALUES[kind]:
            yield _case(f"{kind} {value!r}", _records({"needed": 1.0, kind: value}))
        good = VALUES[kind][0]
        yield _case(f"{kind} beside null", _split(["needed", kind], [1.0, good], [1.0, None]))
        yield _case(f"{kind} among records of which one lacks it", _records({"needed": 1.0, kind: good}, {"needed": 1.0}))
        yield _case(f"{kind} by column", {"inputs": {"needed": [1.0, 2.0], kind: [good, good]}})
        yield _case(f"{kind} by instance", {"instances": [{"needed": 1.0, kind: good}]})
        yield _case(f"{kind} as CSV", f"needed,{kind}\n1.0,{good}\n", CSV)
        yield _case(f"{kind} as an empty field of CSV", f"needed,{kind}\n1.0,\n", CSV)
    for name, values in PARAMS.items():
        for value in values:
            yield _case(f"param {name} {value!r}", {**_records({"needed": 1.0}), "params": {name: value}})
    yield _case("an escaped lone surrogate", b'{"dataframe_records": [{"needed": 1.0, "string": "\\ud800"}]}')
    yield _case("mixed booleans", _split(["needed", "boolean"], [1.0, True], [1.0, "a"], [1.0, 1]))
    yield _case("mixed numbers", _split(["needed", "long"], [1.0, 1], [1.0, 1.5]))
    yield _case("columns in another order", _split(["string", "double", "needed"], ["a", 1.5, 1.0]))
    yield _case("the needed column is missing", _records({"double": 1.0}))
    yield _case("unnamed rows", {"instances": [[1.0, True, 1, 1, 1.0, 1.0, "a", "AA==", "2026-01-02"]]})


NESTED_VALUES: dict[str, list[Any]] = {
    "list": [[1.5], [1], [], None, ["a"], [None], 1.5, [[1.5]], [1.5, "a"], [2**70]],
    "lists": [[[1], [2, 3]], [[]], [], [[1.5]], [1], None],
    "object": [{"a": "x", "b": 1.5}, {"a": "x"}, {"a": "x", "b": None}, {"b": 1.5}, {"a": 1}, {"a": "x", "c": 1}, {}, [], "x", None],
    "objects": [[{"a": 1}], [{"a": 1}, {"a": "b"}], [], [{}], [None], {"a": 1}],
    "map": [{"k": 1, "l": 2}, {"k": "a"}, {}, {"k": None}, [], None],
    "any": [1, "a", [1, "a", None], {"a": {"b": []}}, None],
}


def _nested() -> Iterator[Case]:
    for kind, values in NESTED_VALUES.items():
        for value in values:
            yield _case(f"{kind} {value!r}", _records({kind: value}))
        yield _case(f"{kind} by column", {"inputs": {kind: [values[0], values[0]]}})
        yield _case(f"{kind} by column, one value", {"inputs": {kind: values[0]}})
        yield _case(f"{kind} by record under inputs", {"inputs": [{kind: values[0]}]})
        yield _case(f"{kind} by instance", {"instances": [{kind: values[0]}]})
        yield _case(f"{kind} in two rows of which one is null", _split([kind], [values[0]], [None]))
    yield _case("an object as CSV", 'object\n"{""a"": ""x""}"\n', CSV)


TENSOR = [
    _case("instances", {"instances": [[1.0, 2.0, 3.0], [4, 5, 6]]}),
    _case("inputs", {"inputs": [[1.0, 2.0, 3.0]]}),
    _case("integers", {"inputs": [[1, 2, 3]]}),
    _case("numbers as text", {"inputs": [["1", "2", "3"]]}),
    _case("text", {"inputs": [["a", "b", "c"]]}),
    _case("too narrow", {"inputs": [[1.0, 2.0]]}),
    _case("too flat", {"inputs": [1.0, 2.0, 3.0]}),
    _case("too deep", {"inputs": [[[1.0, 2.0, 3.0]]]}),
    _case("ragged", {"inputs": [[1.0, 2.0, 3.0], [4.0]]}),
    _case("empty", {"inputs": []}),
    _case("empty rows", {"inputs": [[]]}),
    _case("null inside", {"inputs": [[1.0, None, 3.0]]}),
    _case("NaN inside", b'{"inputs": [[1.0, NaN, Infinity]]}'),
    _case("booleans", {"inputs": [[True, False, True]]}),
    _case("a scalar", {"inputs": 1.0}),
    _case("by name", {"inputs": {"a": [[1.0, 2.0, 3.0]]}}),
    _case("instances by name", {"instances": [{"a": [1.0, 2.0, 3.0]}]}),
    _case("split", _split(["a", "b", "c"], [1.0, 2.0, 3.0])),
    _case("split of two columns", _split(["a", "b"], [1.0, 2.0])),
    _case("split with a text", _split(["a", "b", "c"], [1.0, 2.0, "z"])),
    _case("records", _records({"a": 1.0, "b": 2.0, "c": 3.0})),
    _case("CSV", "a,b,c\n1.0,2.0,3.0\n", CSV),
    _case("a param, where the model has none", {"inputs": [[1.0, 2.0, 3.0]], "params": {"k": 1}}),
]

TENSORS = [
    _case("inputs", {"inputs": {"a": [[1.0, 2.0]], "b": [1]}}),
    _case("instances", {"instances": [{"a": [1.0, 2.0], "b": 1}, {"a": [3.0, 4.0], "b": 2}]}),
    _case("instances of which one lacks a name", {"instances": [{"a": [1.0, 2.0], "b": 1}, {"a": [3.0, 4.0]}]}),
    _case("instances of rows", {"instances": [[1.0, 2.0]]}),
    _case("a name is missing", {"inputs": {"a": [[1.0, 2.0]]}}),
    _case("a name too many", {"inputs": {"a": [[1.0, 2.0]], "b": [1], "c": [2]}}),
    _case("doubles that a float cannot hold", {"inputs": {"a": [[0.1, 1e40]], "b": [1]}}),
    _case("fractions for integers", {"inputs": {"a": [[1.0, 2.0]], "b": [1.5]}}),
    _case("big integers", {"inputs": {"a": [[1.0, 2.0]], "b": [2**63]}}),
    _case("a list", {"inputs": [[1.0, 2.0]]}),
    _case("another shape", {"inputs": {"a": [1.0, 2.0], "b": [1]}}),
    _case("split", _split(["a", "b"], [[1.0, 2.0], 1])),
    _case("records", _records({"a": [1.0, 2.0], "b": 1})),
]

HINTED = [
    _case("inputs", {"inputs": ["a", "b"]}),
    _case("inputs of another type", {"inputs": [1, 2]}),
    _case("inputs of no list", {"inputs": "a"}),
    _case("inputs that are empty", {"inputs": []}),
    _case("null inside", {"inputs": ["a", None]}),
    _case("instances", {"instances": ["a"]}),
    _case("records", _records({"0": "a"})),
    _case("two data keys", {"inputs": ["a"], "instances": ["b"]}),
    _case("no data key", {}),
    _case("a param", {"inputs": ["a"], "params": {"k": 1}}),
    _case("CSV", "0\na\n", CSV),
]

SKLEARN = [
    _case("split", _split(["a", "b", "c"], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0])),
    _case("split in another order", _split(["c", "a", "b"], [1.0, 0.0, 0.0])),
    _case("records", _records({"a": 0.1, "b": 0.2, "c": 0.3})),
    _case("inputs", {"inputs": {"a": [0.1], "b": [0.2], "c": [0.3]}}),
    _case("instances of rows", {"instances": [[0.1, 0.2, 0.3]]}),
    _case("instances of objects", {"instances": [{"a": 0.1, "b": 0.2, "c": 0.3}]}),
    _case("CSV", "a,b,c\n0.1,0.2,0.3\n", CSV),
    _case("null", _records({"a": None, "b": 0.2, "c": 0.3})),
    _case("no rows", _split(["a", "b", "c"])),
    _case("a missing column", _records({"a": 0.1, "b": 0.2})),
    _case("an extra column", _records({"a": 0.1, "b": 0.2, "c": 0.3, "d": "x"})),
    _case("a wrong type", _records({"a": "x", "b": 0.2, "c": 0.3})),
    _case("params, where the model has none", {**_records({"a": 0.1, "b": 0.2, "c": 0.3}), "params": {"k": 1}}),
]

# For models of the same three columns in environments of their own.
THREE_COLUMNS = [
    *SKLEARN,
    _case("what is not JSON", b"{nope"),
    _case("nothing", b""),
    _case("a list", [1.0]),
    _case("no data key", {"a": 1.0}),
    _case("two data keys", {"instances": [[0.1, 0.2, 0.3]], "inputs": [[0.1, 0.2, 0.3]]}),
    _case("a split that is a list", {"dataframe_split": []}),
    _case("a split with ragged rows", _split(["a", "b", "c"], [0.1], [0.1, 0.2, 0.3])),
    _case("a client's id", {**_records({"a": 0.1, "b": 0.2, "c": 0.3}), "client_request_id": "mine"}),
    _case("CSV that is empty", "", CSV),
    _case("another charset", "{}", "application/json; charset=latin-1", deviation="text-in-an-envelope"),
    _case("a content type nobody knows", "<x/>", "text/xml", deviation="text-in-an-envelope"),
]

FREE_INPUTS: dict[str, Any] = {
    "split": _split(["a", "b"], [1, "x"], [2.5, None]),
    "split with an index": _split(["a"], [1], [2], index=["k", "l"]),
    "split without columns": {"dataframe_split": {"data": [[1, 2]]}},
    "split with a column twice": _split(["a", "a"], [1, 2]),
    "split with numbers as names": _split([1, 2], [1, 2]),
    "split with nested values": _split(["a"], [[1, 2]], [{"b": 1}]),
    "split of dates": _split(["a"], ["2026-01-02T03:04:05"]),
    "records": _records({"a": 1, "b": "x"}, {"b": "y", "c": True}),
    "records of big integers": _records({"a": 2**63}, {"a": 2**70}),
    "records that are empty": _records(),
    "instances of rows": {"instances": [[1, 2], [3, 4]]},
    "instances of mixed rows": {"instances": [[1, "a"], [3, None]]},
    "instances of objects": {"instances": [{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3, 4]}]},
    "instances of objects of other keys": {"instances": [{"a": 1}, {"b": 2}]},
    "instances that are empty": {"instances": []},
    "instances that are ragged": {"instances": [[1], [2, 3]]},
    "inputs by name": {"inputs": {"a": [1, 2], "b": ["x", "y"], "c": 1.5, "d": None}},
    "inputs that are a list": {"inputs": [1.5, 2]},
    "inputs that are texts": {"inputs": ["x", "y"]},
    "inputs that are records": {"inputs": [{"a": 1}]},
    "inputs that are a text": {"inputs": "x"},
    "inputs that are a number": {"inputs": 1},
    "inputs that are null": {"inputs": None},
    "inputs that are ragged": {"inputs": [[1], [2, 3]]},
    "inputs that are empty": {"inputs": {}},
    "a param": {"inputs": [1], "params": {"k": 1}},
    "messages": {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.1},
}
GIFT_DEVIATIONS = {
    **dict.fromkeys(("nan", "nan in a frame", "frame"), "nan-is-null"),
    **dict.fromkeys(("set", "decimal", "complex"), "unwritable-output"),
    "exit": "model-exits",
}


def _free() -> Iterator[Case]:
    for name, body in FREE_INPUTS.items():
        yield _case(name, body)
    yield _case("CSV", "a,b,when\n1,x,2026-01-02\n2,,\n", CSV)
    yield _case("parquet", pd.DataFrame({"a": [1, 2], "b": ["x", None]}).to_parquet(), CONTENT_TYPE_PARQUET)
    yield _case("parquet that is none", "nope", CONTENT_TYPE_PARQUET)
    for gift in GIFTS:
        yield _case(f"gift: {gift}", {"inputs": [gift]}, deviation=GIFT_DEVIATIONS.get(gift))


CASES: dict[str, list[Case]] = {
    "affine": AFFINE,
    "typed": list(_typed()),
    "nested": list(_nested()),
    "tensor": TENSOR,
    "tensors": TENSORS,
    "hinted": HINTED,
    "sklearn": SKLEARN,
    "free": list(_free()),
}
