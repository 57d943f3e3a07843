"""Models of other flavours and other MLflows, in environments built as any model's is: that MLflow's answers, through our worker."""

import asyncio
import json
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest

from services.scorer.build_log import BuildLog
from services.scorer.environment import HOST_PYTHON, build_environment
from services.scorer.requirements import EnvironmentSpec, normalise_requirements, read_environment_spec
from tests.conformance.bodies import THREE_COLUMNS, Case
from tests.conformance.deviations import check
from tests.conformance.oracle import Seen, seen
from tests.conformance.worker import ask_worker

SCRIPT = Path(__file__).parents[2] / "conformance" / "other_environment.py"
FLASK = ["mlflow-skinny==2.3.2", "flask<3", "pandas<2", "numpy<2", "scikit-learn<1.4", "scipy<1.12", "cloudpickle<3", "setuptools<70"]
LAST = ["mlflow-skinny==2.22.2", "pandas<3", "numpy", "scikit-learn<2", "cloudpickle", "lightgbm<5"]
ONNX = ["mlflow-skinny<4", "pandas<3", "numpy", "onnx<2", "onnxruntime<2"]
Answers = dict[str, tuple[Seen, Seen]]


@pytest.fixture(scope="module")
def flask_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """MLflow's answer and the worker's, by case, where MLflow's server still was Flask's and no function could be called."""
    return asyncio.run(_answers("sklearn", FLASK, tmp_path_factory.mktemp("mlflow-2-3")))


@pytest.fixture(scope="module")
def last_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The same with the last 2.x."""
    if find_library("gomp") is None:
        pytest.skip("missing: libgomp, which LightGBM loads")
    return asyncio.run(_answers("lightgbm", LAST, tmp_path_factory.mktemp("mlflow-2-22")))


@pytest.fixture(scope="module")
def onnx_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The same with a model in ONNX, by today's MLflow."""
    return asyncio.run(_answers("onnx", ONNX, tmp_path_factory.mktemp("onnx")))


async def _answers(flavour: str, requirements: list[str], folder: Path) -> Answers:
    build_log, model = BuildLog(folder / "build.log"), folder / "model"
    wanted = EnvironmentSpec(HOST_PYTHON, tuple(sorted(normalise_requirements(requirements))))
    python = await build_environment(wanted, folder, folder, build_log)
    theirs = _ask_mlflow([str(python), str(SCRIPT), flavour, str(model), *requirements])
    served_by = await build_environment(read_environment_spec(model, HOST_PYTHON), model, folder, build_log)
    assert served_by == python, "what the model asks for is the environment that saved it"
    ours = await ask_worker(served_by, model, folder / "scratch", THREE_COLUMNS)
    return {case.id: (answer, ours[case.id]) for case, answer in zip(THREE_COLUMNS, theirs, strict=True)}


def _ask_mlflow(command: list[str]) -> list[Seen]:
    bodies = json.dumps([[case.content_type, case.body.decode("latin-1")] for case in THREE_COLUMNS])
    asked = subprocess.run(command, input=bodies, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    return [seen(status, kind, text.encode()) for status, kind, text in json.loads(asked.stdout.splitlines()[-1])]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in THREE_COLUMNS])
def test_answers_as_mlflow_2_3_does(flask_answers: Answers, case: Case) -> None:
    check(case.deviation, *flask_answers[case.id])


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in THREE_COLUMNS])
def test_answers_as_mlflow_2_22_does(last_answers: Answers, case: Case) -> None:
    check(case.deviation, *last_answers[case.id])


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in THREE_COLUMNS])
def test_answers_as_onnx_does(onnx_answers: Answers, case: Case) -> None:
    theirs, ours = onnx_answers[case.id]
    computes_nan = theirs.status == 200 and "NaN" in theirs.text  # where the other models refuse a null
    check("nan-is-null" if computes_nan else case.deviation, theirs, ours)
