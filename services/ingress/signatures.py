"""The signature MLflow saved with a model, as JSON schemas of the bodies it takes. Pure."""

import json
from math import isfinite
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, Field, ValidationError

Json = dict[str, Any]
_SCALARS: dict[str, Json] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
}


class Tensor(BaseModel):
    dtype: str
    shape: list[int]


class Column(BaseModel):
    """A column, a tensor, a param, or a part of one; `type` is MLflow's word."""

    type: str
    name: str | None = None
    required: bool = True
    items: "Column | None" = None
    properties: "dict[str, Column]" = {}
    values: "Column | None" = None
    tensor: Tensor | None = Field(None, alias="tensor-spec")
    default: Any = None
    shape: list[int] | None = None


class Signature(BaseModel):
    inputs: list[Column]
    params: list[Column] = []


def read_signature(mlmodel: bytes) -> Signature | None:
    """The signature in an `MLmodel` file, or None where there is none that can be read."""
    try:
        saved = yaml.safe_load(mlmodel)["signature"]
        return Signature(inputs=_loads(saved["inputs"]), params=_loads(saved.get("params") or "[]"))
    except (yaml.YAMLError, ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _loads(text: str) -> Any:
    """A default that is no finite number is left out: it is not JSON, and MLflow writes it."""
    return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)


def _finite(text: str) -> float | None:
    return number if isfinite(number := float(text)) else None


def request_schema(signature: Signature) -> Json:
    """One schema for each form of body MLflow takes for such a model (databricks_surface §2.1)."""
    is_tensor = any(column.tensor for column in signature.inputs)
    forms = _tensor_forms(signature.inputs) if is_tensor else _frame_forms(signature.inputs)
    extra = {"params": _params(signature.params)} if signature.params else {}
    return {"oneOf": [{"type": "object", "required": [key], "properties": {key: form, **extra}} for key, form in forms.items()]}


def _frame_forms(columns: list[Column]) -> dict[str, Json]:
    rows = {"type": "array", "items": {"type": "array", "prefixItems": [_nullable(column) for column in columns]}}
    names = [column.name for column in columns if column.name is not None]
    labels: Json = {"type": "array", "items": {"type": "string", "enum": names} if names else {"type": "string"}}
    index = {"type": "array", "items": {"type": "integer"}}
    split = {"type": "object", "required": ["columns", "data"], "properties": {"columns": labels, "data": rows, "index": index}}
    return {"dataframe_split": split, "dataframe_records": {"type": "array", "items": _object(columns)}}


def _tensor_forms(columns: list[Column]) -> dict[str, Json]:
    """By rows and by columns; the first dimension of a tensor is the row."""
    if len(columns) == 1 and columns[0].name is None:
        whole = _tensor(columns[0].tensor)
        return {"instances": whole, "inputs": whole}
    by_row = {column.name or "": _tensor(column.tensor).get("items", {}) for column in columns}
    by_column = {column.name or "": _tensor(column.tensor) for column in columns}
    return {"instances": {"type": "array", "items": _all_of(by_row)}, "inputs": _all_of(by_column)}


def _tensor(tensor: Tensor | None) -> Json:
    if tensor is None:
        return {}
    kind = next((kind for prefix, kind in _DTYPES.items() if tensor.dtype.startswith(prefix)), None)
    schema: Json = {"type": kind} if kind else {}
    for size in reversed(tensor.shape):
        schema = {"type": "array", "items": schema} | ({"minItems": size, "maxItems": size} if size >= 0 else {})
    return schema


_DTYPES = {"float": "number", "int": "integer", "uint": "integer", "bool": "boolean", "str": "string", "<U": "string"}


def _params(params: list[Column]) -> Json:
    """None is required: each has its default."""
    return {"type": "object", "properties": {param.name or "": _param(param) for param in params}}


def _param(param: Column) -> Json:
    value = _schema(param) if param.shape is None else {"type": "array", "items": _schema(param)}
    return value if param.default is None else value | {"default": param.default}


def _schema(column: Column) -> Json:
    if column.type == "array" and column.items:
        return {"type": "array", "items": _nullable(column.items)}
    if column.type == "object":
        return _object([part.model_copy(update={"name": name}) for name, part in column.properties.items()])
    if column.type == "map" and column.values:
        return {"type": "object", "additionalProperties": _nullable(column.values)}
    return dict(_SCALARS.get(column.type, {}))


def _nullable(column: Column) -> Json:
    schema = _schema(column)
    return schema if column.required or not schema else schema | {"type": [schema["type"], "null"]}


def _object(columns: list[Column]) -> Json:
    properties = {column.name: _nullable(column) for column in columns if column.name is not None}
    required = [column.name for column in columns if column.required and column.name is not None]
    return {"type": "object", "required": required, "properties": properties}


def _all_of(properties: dict[str, Json]) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}
