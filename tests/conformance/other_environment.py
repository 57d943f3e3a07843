"""Runs in an environment of MLflow 2.x: saves a model, and answers bodies with that MLflow's own server.

`python old_mlflow.py sklearn|lightgbm <folder> <requirement>...` reads [[content type, body as latin-1], ...] from standard input,
and prints [[status, content type, text], ...] as its last line.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

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


def save(flavour: str, folder: str, requirements: list[str]) -> None:
    target = ROWS["a"] + 2 * ROWS["b"]
    if flavour == "sklearn":
        linear = LinearRegression().fit(ROWS, target)
        mlflow.sklearn.save_model(linear, folder, signature=SIGNATURE, pip_requirements=requirements)
    else:
        import lightgbm  # type: ignore[import-not-found]  # that environment has it
        from mlflow.lightgbm import save_model

        boosted = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, target), num_boost_round=5)
        save_model(boosted, folder, signature=SIGNATURE, pip_requirements=requirements)


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
    save(flavour, str(folder), requirements)
    model = mlflow.pyfunc.load_model(str(folder))
    print(json.dumps([answer(model, content_type, body.encode("latin-1")) for content_type, body in json.load(sys.stdin)]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
