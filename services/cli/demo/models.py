"""The demo's data and models: scikit-learn's breast cancer set, and two versions of one classifier in MLflow."""

import logging
import os
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODEL_NAME = "penstock_demo"
REQUIREMENTS = ("mlflow", "scikit-learn", "skops", "pandas", "numpy")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows the models have not seen: `features` (171 rows, 30 columns) with their true `labels`."""

    features: pd.DataFrame
    labels: list[int]


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in the registry beside what it predicts here, in this process, for the held-out rows."""

    version: str
    kind: str
    predictions: list[int]


def train_and_register(tracking_uri: str) -> tuple[HeldOut, list[RegisteredModel]]:
    """Train two versions on the same 398 rows and register them. Each call adds two new versions."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("penstock-demo")
    features, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    known, unseen, known_labels, unseen_labels = train_test_split(features, labels, test_size=0.3, random_state=7, stratify=labels)
    models = [("naive Bayes", GaussianNB()), ("logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)))]
    registered = [_register(kind, model.fit(known, known_labels), known, unseen) for kind, model in models]
    return HeldOut(unseen, unseen_labels.tolist()), registered


def _register(kind: str, model: BaseEstimator, known: pd.DataFrame, unseen: pd.DataFrame) -> RegisteredModel:
    predictions = model.predict(unseen)
    with mlflow.start_run(run_name=kind), warnings.catch_warnings(), redirect_stderr(StringIO()):  # MLflow tells there what it registered
        warnings.simplefilter("ignore")  # MLflow's advice on types and pickles; the demo states what it wants
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=MODEL_NAME,
            signature=infer_signature(unseen, predictions),
            input_example=known.head(2),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
        )
    return RegisteredModel(str(logged.registered_model_version), kind, predictions.tolist())
