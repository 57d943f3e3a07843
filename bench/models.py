"""The models every system serves, the request each is asked, and what it must answer."""

import json
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

COLUMNS = [f"c{i}" for i in range(10)]
WAIT_S = 0.1
SHORT_WAIT_S = 0.05
TREES = 500
SKLEARN_REQUIREMENTS = [f"{p}=={version(p)}" for p in ("mlflow", "scikit-learn", "pandas", "numpy", "scipy", "cloudpickle")]
PYFUNC_REQUIREMENTS = [f"{p}=={version(p)}" for p in ("mlflow", "pandas", "numpy", "cloudpickle")]

logging.getLogger("mlflow").setLevel(logging.ERROR)  # it tells of every step


@dataclass(frozen=True, slots=True)
class ModelKind:
    """`own_time_s` is what its evaluation cannot be quicker than, however many go together; 0: no such bound."""

    name: str
    save: Callable[[Path], None]
    own_time_s: float = 0.0


def request_body(rows: int = 1) -> bytes:
    """`rows` rows of ten doubles in MLflow's own protocol."""
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": _data(rows)}}).encode()


def arrays_body() -> bytes:
    """The same row for systems that know no MLflow protocol: a plain array of one row."""
    return json.dumps({"rows": _data(1)}).encode()


def row() -> list[float]:
    return _data(1)[0]


def expected_predictions(folder: Path) -> Any:
    """What the saved model predicts for `request_body()`, as JSON holds it."""
    predicted = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame(_data(1), columns=COLUMNS))
    if isinstance(predicted, pd.DataFrame):
        return predicted.to_dict(orient="records")
    return np.asarray(predicted).tolist()


def saved_model(name: str, root: Path) -> Path:
    """The folder of that model, trained and saved there if it is not yet."""
    folder = root / name
    if not (folder / "MLmodel").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's advice on types and pickles: every system loads this very folder
            KINDS[name].save(folder)
    return folder


def register(tracking_uri: str, name: str, folder: Path) -> str:
    """Put a saved model into the registry as it is; returns its version."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    client = mlflow.MlflowClient(tracking_uri)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.set_terminated(run.info.run_id)
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    return str(made.version)


def _data(rows: int) -> list[list[float]]:
    return [[math.sin(10 * row + column) for column in range(10)] for row in range(rows)]


def _save_sklearn(model: BaseEstimator, folder: Path) -> None:
    features, labels = make_classification(2_000, n_features=10, n_informative=6, random_state=7)
    frame = pd.DataFrame(features, columns=COLUMNS)
    model.fit(frame, labels)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        serialization_format="cloudpickle",
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(3),
        pip_requirements=SKLEARN_REQUIREMENTS,
    )


def _echo() -> Any:
    """Answers its input."""

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # in here: MLflow warns where a class is made, and pickles it whole
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads meaning into hints
            return model_input

    return Echo()


def _waiting(wait_s: float) -> Any:
    """Waits, as a model does that asks another service; then answers its first column."""

    class Waiting(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            time.sleep(wait_s)
            return model_input.iloc[:, 0].to_numpy()

    return Waiting()


def _save_pyfunc(model: Any, folder: Path) -> None:
    frame = pd.DataFrame(_data(3), columns=COLUMNS)
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=model,
        signature=infer_signature(frame, model.predict(None, frame)),
        input_example=frame,
        pip_requirements=PYFUNC_REQUIREMENTS,
    )


KINDS: Mapping[str, ModelKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            ModelKind("linear", lambda folder: _save_sklearn(LogisticRegression(max_iter=1_000), folder)),
            ModelKind("forest", lambda folder: _save_sklearn(RandomForestClassifier(TREES, random_state=7), folder)),
            ModelKind("echo", lambda folder: _save_pyfunc(_echo(), folder)),
            ModelKind("waiting", lambda folder: _save_pyfunc(_waiting(WAIT_S), folder), WAIT_S),
            ModelKind("waiting50", lambda folder: _save_pyfunc(_waiting(SHORT_WAIT_S), folder), SHORT_WAIT_S),
        )
    }
)
