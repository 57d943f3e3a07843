"""Runs in an environment that is not the tests' own: saves a model, and answers bodies with that environment's MLflow server.

`python other_environment.py sklearn|lightgbm|onnx <folder> <requirement>...` reads [[content type, body as latin-1], ...] from
standard input, and prints [[status, content type, text], ...] as its last line.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema, TensorSpec

SIGNATURE = ModelSignature(Schema([ColSpec("double", name) for name in "abc"]), Schema([TensorSpec(np.dtype("float64"), (-1,))]))
ROWS = pd.DataFrame(np.random.default_rng(7).random((60, 3)), columns=["a", "b", "c"])
TARGET = ROWS["a"] + 2 * ROWS["b"]


def save_sklearn(folder: str, **more: Any) -> None:
    from mlflow.sklearn import save_model
    from sklearn.linear_model import LinearRegression

    save_model(LinearRegression().fit(ROWS, TARGET), folder, signature=SIGNATURE, **more)


def save_lightgbm(folder: str, **more: Any) -> None:
    import lightgbm  # type: ignore[import-not-found]  # that environment has it
    from mlflow.lightgbm import save_model

    boosted = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, TARGET), num_boost_round=5)
    save_model(boosted, folder, signature=SIGNATURE, **more)


def save_onnx(folder: str, **more: Any) -> None:
    """`y = (a, b, c) · weights` in float32, as ONNX has it: the answer is a frame with one column."""
    import onnx  # type: ignore[import-not-found]  # that environment has it
    from mlflow.onnx import save_model

    one, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.array([[1.0], [2.0], [0.5]], dtype=np.float32), "weights")
    graph = one.make_graph(
        [one.make_node("MatMul", ["x", "weights"], ["y"])],
        "linear",
        [one.make_tensor_value_info("x", kind, [None, 3])],
        [one.make_tensor_value_info("y", kind, [None, 1])],
        [weights],
    )
    model = one.make_model(graph, opset_imports=[one.make_opsetid("", 17)], ir_version=9)
    save_model(model, folder, signature=ModelSignature(SIGNATURE.inputs), input_example=ROWS.head(2), **more)


def answer(model: Any, content_type: str, body: bytes) -> tuple[int, str, str]:
    """By its server where that is Flask's; else as its route does, which needs a web framework that mlflow-skinny has not."""
    if hasattr(scoring_server, "flask"):
        page = scoring_server.init(model).test_client().post("/invocations", data=body, content_type=content_type)
        return page.status_code, page.mimetype, page.get_data(as_text=True)
    try:
        found = scoring_server.invocations(body, content_type, model, model.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), "application/json", error.serialize_as_json()
    return found.status, found.mimetype, found.response


def main(flavour: str, folder: Path, requirements: list[str]) -> None:
    warnings.simplefilter("ignore")
    {"sklearn": save_sklearn, "lightgbm": save_lightgbm, "onnx": save_onnx}[flavour](str(folder), pip_requirements=requirements)
    model = mlflow.pyfunc.load_model(str(folder))
    print(json.dumps([answer(model, content_type, body.encode("latin-1")) for content_type, body in json.load(sys.stdin)]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
