"""The models that both sides serve: one for each kind of signature, and one that gives whatever it is asked for."""

import datetime
import decimal
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Map, Object, Property
from sklearn.linear_model import LinearRegression

from tests.e2e import models as affine

CODE = Path(__file__).with_name("code")
REQUIREMENTS = ["mlflow-skinny"]  # nothing is built from it: the worker runs in the tests' own environment

TYPES = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
TYPED = ModelSignature(
    Schema([ColSpec("double", "needed"), *(ColSpec(kind, kind, required=False) for kind in TYPES)]),
    params=ParamSchema(
        [
            ParamSpec("k", "long", 5),
            ParamSpec("small", "integer", 5),
            ParamSpec("ratio", "double", 0.5),
            ParamSpec("rough", "float", 0.5),
            ParamSpec("word", "string", "a"),
            ParamSpec("flag", "boolean", False),
            ParamSpec("when", "datetime", np.datetime64("2026-01-01")),
            ParamSpec("many", "long", [1, 2], (-1,)),
            ParamSpec("deep", Object([Property("a", DataType.long)]), {"a": 1}, None),
        ]
    ),
)
NESTED = ModelSignature(
    Schema(
        [
            ColSpec(Array(DataType.double), "list", required=False),
            ColSpec(Array(Array(DataType.long)), "lists", required=False),
            ColSpec(Object([Property("a", DataType.string), Property("b", DataType.double, required=False)]), "object", required=False),
            ColSpec(Array(Object([Property("a", DataType.long)])), "objects", required=False),
            ColSpec(Map(DataType.long), "map", required=False),
            ColSpec(AnyType(), "any", required=False),
        ]
    )
)
TENSOR = ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, 3))]))
TENSORS = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 2), "a"), TensorSpec(np.dtype("int64"), (-1,), "b")]))


class Mirror(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers with what it was given, types and all."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # mlflow makes a schema of hints
        return _shown(model_input, params)


class Giver(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Mirrors, unless its artifact knows the first word of the input: then that gift."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        self.gifts = set(json.loads(Path(context.artifacts["gifts"]).read_text()))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        word = str(np.ravel(model_input)[0]) if np.size(model_input) else ""
        return GIFTS[word]() if word in self.gifts else _shown(model_input, params)


class Hinted(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Its signature comes from the hint."""

    def predict(self, model_input: list[str]) -> list[str]:
        return [word.upper() for word in model_input]


def _shown(model_input: Any, params: Any) -> dict[str, Any]:
    from showcase import show  # type: ignore[import-not-found]  # the model's code path

    return {"input": show(model_input), "params": show(params)}


def _fail(error: BaseException) -> Any:
    raise error


GIFTS: dict[str, Callable[[], Any]] = {
    "nan": lambda: [1.0, float("nan"), float("inf"), float("-inf")],
    "nan in a frame": lambda: pd.DataFrame({"a": [1.0, None], "b": ["NaN", None]}),
    "the word NaN": lambda: ["NaN", "Infinity", "é", "\ud800", 0.1, 1e300, 2**70],
    "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[7, 8]),
    "frame of twins": lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "series": lambda: pd.Series([1.5, 2.5]),
    "named series": lambda: pd.Series([1.5, 2.5], name="score"),
    "matrix": lambda: np.eye(2),
    "integers": lambda: np.array([1, 2], dtype="int8"),
    "halves": lambda: np.array([0.1, 0.2], dtype="float32"),
    "objects": lambda: np.array([None, "a", np.float64(1.5)], dtype=object),
    "scalar": lambda: 4.5,
    "numpy scalar": lambda: np.int64(4),
    "text": lambda: "text",
    "nothing": lambda: None,
    "dictionary": lambda: {"a": np.array([1.5]), "b": {"c": [True, None]}, 3: "key"},
    "datetimes": lambda: pd.DataFrame({"at": pd.to_datetime(["2026-01-02T03:04:05.678901", None])}),
    "a date": lambda: [datetime.date(2026, 1, 2), np.datetime64("2026-01-02"), pd.Timestamp("2026-01-02", tz="UTC")],
    "bytes": lambda: [b"\x00\xff" * 60],
    "tuple": lambda: (1, (2, 3)),
    "empty": lambda: pd.DataFrame({"a": []}),
    "set": lambda: {1, 2},
    "decimal": lambda: [decimal.Decimal("1.5")],
    "complex": lambda: np.array([1 + 2j]),
    "category": lambda: pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "value error": lambda: _fail(ValueError("the model dislikes this")),
    "key error": lambda: _fail(KeyError("a")),
    "mlflow error": lambda: _fail(MlflowException("not for you", error_code=PERMISSION_DENIED)),
    "mlflow 404": lambda: _fail(MlflowException("not here", error_code=RESOURCE_DOES_NOT_EXIST)),
    "mlflow internal error": lambda: _fail(MlflowException("broken")),
    "exit": lambda: _fail(SystemExit(3)),
}


def save_models(folder: Path) -> dict[str, Path]:
    """Save each model of the suite; returns their folders by name."""
    for module in (sys.modules[__name__], affine):
        cloudpickle.register_pickle_by_value(module)  # a worker has no tests to import
    gifts = folder / "gifts.json"
    gifts.write_text(json.dumps(list(GIFTS)))
    mirrors = {"typed": TYPED, "nested": NESTED, "tensor": TENSOR, "tensors": TENSORS}
    for name, signature in mirrors.items():
        _save(folder / name, python_model=Mirror(), signature=signature, code_paths=[str(CODE / "showcase.py")])
    _save(folder / "free", python_model=Giver(), artifacts={"gifts": str(gifts)}, code_paths=[str(CODE / "showcase.py")])
    _save(folder / "hinted", python_model=Hinted())
    _save(folder / "affine", python_model=affine.Affine(2.0), signature=affine.SIGNATURE)
    fitted = LinearRegression().fit(pd.DataFrame(np.eye(3), columns=["a", "b", "c"]), [1.0, 2.0, 4.0])
    columns = ModelSignature(Schema([ColSpec("double", name) for name in "abc"]), Schema([TensorSpec(np.dtype("float64"), (-1,))]))
    mlflow.sklearn.save_model(fitted, folder / "sklearn", signature=columns, pip_requirements=REQUIREMENTS)
    return {name: folder / name for name in (*mirrors, "free", "hinted", "affine", "sklearn")}


def _save(folder: Path, **model: Any) -> None:
    mlflow.pyfunc.save_model(folder, pip_requirements=REQUIREMENTS, **model)
