"""Which bodies may stand in one frame with others' rows."""

# mypy: disable-error-code="no-untyped-call"

import json
from typing import Any

import numpy
import pytest
from mlflow.types import ColSpec, Schema, TensorSpec

from services.scorer.model_worker.frames import JSON_TYPE
from services.scorer.model_worker.rows import rows_of, value_tests

TESTS, _ = value_tests(Schema([ColSpec("double", "d"), ColSpec("long", "l"), ColSpec("string", "s"), ColSpec("boolean", "b")]))
ROW: list[Any] = [1.5, 2, "x", True]
NAMES = ["d", "l", "s", "b"]


def split(*rows: object, **more: object) -> dict[str, object]:
    return {"dataframe_split": {"columns": NAMES, "data": list(rows), **more}}


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param(split(ROW), [ROW], id="one row"),
        pytest.param(split(ROW, ROW), [ROW, ROW], id="several rows"),
        pytest.param({**split(ROW), "client_request_id": "c"}, [ROW], id="the client's id is no data"),
        pytest.param({"dataframe_records": [dict(zip(NAMES, ROW, strict=True))]}, [ROW], id="records"),
        pytest.param(split([3, 2, "x", True]), [[3, 2, "x", True]], id="a whole number in a double column"),
        pytest.param(split(), None, id="no row"),
        pytest.param(split(ROW, index=[7]), None, id="an index"),
        pytest.param({**split(ROW), "params": {}}, None, id="params"),
        pytest.param({**split(ROW), "inputs": []}, None, id="two forms"),
        pytest.param({"inputs": [ROW]}, None, id="inputs"),
        pytest.param({"instances": [ROW]}, None, id="instances"),
        pytest.param([ROW], None, id="a list"),
        pytest.param({"dataframe_split": {"columns": NAMES[::-1], "data": [ROW[::-1]]}}, None, id="another order"),
        pytest.param({"dataframe_split": {"columns": [*NAMES, "e"], "data": [[*ROW, 1]]}}, None, id="one column more"),
        pytest.param({"dataframe_split": {"columns": NAMES[:3], "data": [ROW[:3]]}}, None, id="one column less"),
        pytest.param({"dataframe_split": {"data": [ROW]}}, None, id="no columns"),
        pytest.param({"dataframe_records": [{**dict(zip(NAMES, ROW, strict=True)), "e": 1}]}, None, id="records with more"),
        pytest.param(split(ROW, ROW[:3]), None, id="a short row"),
        pytest.param(split([None, 2, "x", True]), None, id="null"),
        pytest.param(split([float("nan"), 2, "x", True]), None, id="NaN"),
        pytest.param(split([float("inf"), 2, "x", True]), None, id="infinity"),
        pytest.param(split([True, 2, "x", True]), None, id="a boolean is no number"),
        pytest.param(split(["1.5", 2, "x", True]), None, id="a string is no number"),
        pytest.param(split([2**53 + 1, 2, "x", True]), None, id="a whole number that no double holds"),
        pytest.param(split([1.5, 2.0, "x", True]), None, id="a float in a long column"),
        pytest.param(split([1.5, 2**63, "x", True]), None, id="longer than long"),
        pytest.param(split([1.5, 2, 3, True]), None, id="a number in a string column"),
        pytest.param(split([1.5, 2, "x", 1]), None, id="a number in a boolean column"),
        pytest.param(split([[1.5], 2, "x", True]), None, id="nested"),
    ],
)
def test_rows_of(body: object, rows: object) -> None:
    found = rows_of(JSON_TYPE, json.dumps(body).encode(), TESTS)
    assert (found and found[0]) == rows


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_goes_alone(body: bytes) -> None:
    assert rows_of(JSON_TYPE, body, TESTS) is None


@pytest.mark.parametrize("content_type", ["text/csv", "application/json; charset=utf-16", "application/json;format=pandas-split"])
def test_what_is_not_plain_json_goes_alone(content_type: str) -> None:
    assert rows_of(content_type, json.dumps(split(ROW)).encode(), TESTS) is None


def test_the_clients_id_comes_along() -> None:
    assert rows_of(JSON_TYPE, json.dumps({**split(ROW), "client_request_id": "c"}).encode(), TESTS) == ([ROW], "c")


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(None, id="no signature"),
        pytest.param(Schema([TensorSpec(numpy.dtype("float64"), (-1, 2))]), id="a tensor"),
        pytest.param(Schema([ColSpec("double")]), id="no names"),
        pytest.param(Schema([ColSpec("double", "a"), ColSpec("datetime", "t")]), id="a date"),
        pytest.param(Schema([ColSpec("binary", "t")]), id="bytes"),
    ],
)
def test_signatures_that_do_not_allow_it(schema: Schema | None) -> None:
    tests, why = value_tests(schema)
    assert tests is None
    assert why
