"""What a signature says of the bodies a model takes. Signatures are as MLflow 3 writes them."""

import json
from typing import Any

import pytest

from services.ingress.openapi import openapi_of
from services.ingress.signatures import read_signature, request_schema
from tests.unit.shared.control_log import config, created, fold, ready

DOUBLE, LONG = {"type": "number", "format": "double"}, {"type": "integer", "format": "int64"}
X = '[{"type": "double", "name": "x", "required": true}]'


def mlmodel(inputs: str, params: str | None = None) -> bytes:
    return json.dumps({"flavors": {}, "signature": {"inputs": inputs, "outputs": None, "params": params}}).encode()


def forms(inputs: list[dict[str, Any]], params: str | None = None) -> dict[str, Any]:
    """The schema of each form of body, by its key."""
    signature = read_signature(mlmodel(json.dumps(inputs), params))
    assert signature is not None
    schemas = request_schema(signature)["oneOf"]
    assert all(schema["required"] == [next(iter(schema["properties"]))] for schema in schemas)
    return {schema["required"][0]: schema["properties"] for schema in schemas}


def record(column: dict[str, Any]) -> Any:
    return forms([{"name": "c", "required": True, **column}])["dataframe_records"]["dataframe_records"]["items"]["properties"]["c"]


@pytest.mark.parametrize(
    ("column", "schema"),
    [
        pytest.param({"type": "double"}, DOUBLE, id="double"),
        pytest.param({"type": "datetime"}, {"type": "string", "format": "date-time"}, id="datetime"),
        pytest.param({"type": "binary"}, {"type": "string", "contentEncoding": "base64"}, id="bytes are base64"),
        pytest.param({"type": "long", "required": False}, {"type": ["integer", "null"], "format": "int64"}, id="optional"),
        pytest.param({"type": "any"}, {}, id="anything"),
        pytest.param({"type": "any", "required": False}, {}, id="anything or nothing"),
        pytest.param({"type": "sparkml_vector"}, {}, id="a type that is not known"),
        pytest.param({"type": "array", "items": {"type": "long"}}, {"type": "array", "items": LONG}, id="array"),
        pytest.param({"type": "map", "values": {"type": "double"}}, {"type": "object", "additionalProperties": DOUBLE}, id="map"),
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "long", "required": True}, "b": {"type": "double", "required": False}}},
            {"type": "object", "required": ["a"], "properties": {"a": LONG, "b": {"type": ["number", "null"], "format": "double"}}},
            id="object",
        ),
    ],
)
def test_a_column(column: dict[str, Any], schema: dict[str, Any]) -> None:
    assert record(column) == schema


def test_a_frame_is_taken_as_split_and_as_records() -> None:
    seen = forms([{"type": "double", "name": "x"}, {"type": "long", "name": "n", "required": False}])
    assert list(seen) == ["dataframe_split", "dataframe_records"]
    split = seen["dataframe_split"]["dataframe_split"]["properties"]
    assert split["columns"] == {"type": "array", "items": {"type": "string", "enum": ["x", "n"]}}
    assert split["data"]["items"]["prefixItems"] == [DOUBLE, {"type": ["integer", "null"], "format": "int64"}]
    assert seen["dataframe_records"]["dataframe_records"]["items"]["required"] == ["x"]
    assert "params" not in seen["dataframe_split"]


def test_params_stand_beside_each_form_with_their_defaults() -> None:
    params = (
        '[{"name": "k", "default": 2, "shape": null, "type": "long"}, {"name": "n", "default": NaN, "shape": null, "type": "double"},'
        '{"name": "huge", "default": 1e999, "shape": null, "type": "double"},'
        '{"name": "l", "default": ["a"], "shape": [-1], "type": "string"}]'
    )
    seen = forms(json.loads(X), params)
    assert seen["dataframe_split"]["params"] == seen["dataframe_records"]["params"]
    assert seen["dataframe_split"]["params"]["properties"] == {
        "k": {**LONG, "default": 2},
        "n": DOUBLE,
        "huge": DOUBLE,
        "l": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
    }


def test_a_tensor_is_nested_arrays() -> None:
    seen = forms([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}])
    rows = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
    assert seen == {"instances": {"instances": rows}, "inputs": {"inputs": rows}}


def test_named_tensors_are_taken_by_row_and_by_name() -> None:
    seen = forms([{"type": "tensor", "name": "a", "tensor-spec": {"dtype": "int64", "shape": [-1]}}])
    assert seen["instances"]["instances"]["items"]["properties"] == {"a": {"type": "integer"}}
    assert seen["inputs"]["inputs"]["properties"] == {"a": {"type": "array", "items": {"type": "integer"}}}


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(b"flavors: {}", id="none"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"signature: null", id="null"),
        pytest.param(b"a: [", id="no YAML"),
        pytest.param(b"\xff\xfe\xfa", id="no text"),
        pytest.param(mlmodel("{"), id="no JSON inside"),
        pytest.param(mlmodel('[{"name": "x"}]'), id="a column without a type"),
        pytest.param(mlmodel("[" * 100_000), id="too deep"),
    ],
)
def test_what_cannot_be_read_is_no_signature(saved: bytes) -> None:
    assert read_signature(saved) is None


def test_the_document_names_the_endpoint_and_each_served_model() -> None:
    signature = read_signature(mlmodel(X))
    assert signature is not None
    endpoint = fold(created(config("1")), ready("a")).endpoints["churn"]
    document = openapi_of(endpoint, "http://penstock/", {"a": signature})
    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "churn")
    assert document["servers"] == [{"url": "http://penstock/serving-endpoints/churn"}]
    body = document["paths"]["/served-models/a/invocations"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == request_schema(signature)
