"""The models the end-to-end tests serve: each answer can be told from the input, so that a stranger's answer is seen."""

import os
import sys
import time
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

REQUIREMENTS = [f"{package}=={version(package)}" for package in ("mlflow-skinny", "pandas", "numpy", "cloudpickle")]
SIGNATURE = ModelSignature(
    Schema([ColSpec("double", "x")]),
    Schema([ColSpec("double")]),
    ParamSchema([ParamSpec("offset", "double", 0.0), ParamSpec("sleep_s", "double", 0.0)]),
)


ECHO_SIGNATURE = ModelSignature(Schema([ColSpec("string", "text")]), Schema([ColSpec("string")]))
EXAMPLE = {"x": [1.0], "text": ["a"]}


class Affine(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """x → factor · x + offset. `x` < 0 raises; `x` = 666 kills the process that evaluates it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[float]:
        params = params or {}
        time.sleep(params.get("sleep_s", 0.0))
        values = [float(x) for x in model_input["x"]]
        if any(x < 0 for x in values):
            raise ValueError("x must not be negative")
        if 666.0 in values:
            os.kill(os.getpid(), 9)
        return [self.factor * x + params.get("offset", 0.0) for x in values]


class Unloadable(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        raise RuntimeError("the weights are not here")

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[float]:
        return []


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """text → the same text, however long."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        return [str(text) for text in model_input["text"]]


class Leaky(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Tells its secrets wherever it can: prints them, raises with them at load if FAILS is set, and at a text that says so.

    Else it answers with the digest of PASSWORD.
    """

    def load_context(self, context: Any) -> None:
        print(self.secrets())
        if os.environ.get("FAILS"):
            raise RuntimeError(f"no login with {self.secrets()}")

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        print(self.secrets(), file=sys.stderr, flush=True)
        texts = [str(text) for text in model_input["text"]]
        if any(text.startswith("raise") for text in texts):
            raise ValueError(f"no login with {self.secrets()} for {texts}")
        return [sha256(os.environ.get("PASSWORD", "").encode()).hexdigest() for _ in texts]

    def secrets(self) -> str:
        return f"{os.environ.get('PASSWORD')!r} and {os.environ.get('PLAIN')}"


def register(tracking_uri: str, name: str, model: mlflow.pyfunc.PythonModel, signature: ModelSignature = SIGNATURE) -> str:
    """Register a model; returns its version."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the model's environment has no tests to import
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    mlflow.set_tracking_uri(tracking_uri)
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=model,
            registered_model_name=name,
            signature=signature,
            input_example=pd.DataFrame(EXAMPLE)[signature.inputs.input_names()],
            pip_requirements=REQUIREMENTS,
        )
    return str(logged.registered_model_version)
