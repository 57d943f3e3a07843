"""Runs in an environment of MLflow 2.x: saves a model of each flavour, and answers bodies with that MLflow's own function.

`python old_mlflow.py <folder> <requirement>...` reads [[content type, body as latin-1], ...] from standard input, and prints
{flavour: [[status, content type, text], ...]} as its last line.
"""

import json
import sys
import warnings
from pathlib import Path

import lightgbm  # type: ignore[import-not-found]  # that environment has it
import mlflow.lightgbm
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression

SIGNATURE = ModelSignature(Schema([ColSpec("double", name) for name in "abc"]), Schema([TensorSpec(np.dtype("float64"), (-1,))]))
ROWS = pd.DataFrame(np.random.default_rng(7).random((60, 3)), columns=["a", "b", "c"])


def save_models(folder: Path, requirements: list[str]) -> dict[str, Path]:
    target = ROWS["a"] + 2 * ROWS["b"]
    linear = LinearRegression().fit(ROWS, target)
    boosted = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, target), num_boost_round=5)
    mlflow.sklearn.save_model(linear, str(folder / "sklearn"), signature=SIGNATURE, pip_requirements=requirements)
    mlflow.lightgbm.save_model(boosted, str(folder / "lightgbm"), signature=SIGNATURE, pip_requirements=requirements)
    return {"sklearn": folder / "sklearn", "lightgbm": folder / "lightgbm"}


def answer(model, content_type: str, body: bytes) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    """As the route of that MLflow's server does, which needs a web framework that mlflow-skinny has not."""
    try:
        found = scoring_server.invocations(body, content_type, model, model.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), "application/json", error.serialize_as_json()
    return found.status, found.mimetype, found.response


def main(folder: Path, requirements: list[str]) -> None:
    warnings.simplefilter("ignore")
    bodies = json.load(sys.stdin)
    answers = {}
    for flavour, path in save_models(folder, requirements).items():
        model = mlflow.pyfunc.load_model(str(path))
        answers[flavour] = [answer(model, content_type, body.encode("latin-1")) for content_type, body in bodies]
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
