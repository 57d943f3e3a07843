"""Models that MLflow 2.x saved, in an environment of MLflow 2.x built as any model's is: that MLflow's answers, through our worker."""

import asyncio
import json
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest

from services.scorer.build_log import BuildLog
from services.scorer.environment import HOST_PYTHON, build_environment
from services.scorer.requirements import EnvironmentSpec, normalise_requirements, read_environment_spec
from tests.conformance.bodies import MLFLOW_2, Case
from tests.conformance.deviations import check
from tests.conformance.oracle import Seen, seen
from tests.conformance.worker import ask_worker

SCRIPT = Path(__file__).parents[2] / "conformance" / "old_mlflow.py"
REQUIREMENTS = ["mlflow-skinny==2.22.2", "pandas<3", "numpy", "scikit-learn<2", "cloudpickle", "lightgbm<5"]
FLAVOURS = ("sklearn", "lightgbm")
Answers = dict[tuple[str, str], tuple[Seen, Seen]]

pytestmark = pytest.mark.skipif(find_library("gomp") is None, reason="missing: libgomp, which LightGBM loads")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """MLflow 2's answer and the worker's, by flavour and case."""
    return asyncio.run(_answers(tmp_path_factory.mktemp("mlflow-2")))


async def _answers(folder: Path) -> Answers:
    build_log = BuildLog(folder / "build.log")
    wanted = EnvironmentSpec(HOST_PYTHON, tuple(sorted(normalise_requirements(REQUIREMENTS))))
    python = await build_environment(wanted, folder, folder, build_log)
    theirs = _ask_old_mlflow(python, folder)
    answers: Answers = {}
    for flavour in FLAVOURS:
        model = folder / flavour
        served_by = await build_environment(read_environment_spec(model, HOST_PYTHON), model, folder, build_log)
        assert served_by == python, "what the model asks for is the environment that saved it"
        ours = await ask_worker(served_by, model, folder / "scratch" / flavour, MLFLOW_2)
        answers |= {(flavour, case.id): (theirs[flavour][at], ours[case.id]) for at, case in enumerate(MLFLOW_2)}
    return answers


def _ask_old_mlflow(python: Path, folder: Path) -> dict[str, list[Seen]]:
    bodies = json.dumps([[case.content_type, case.body.decode("latin-1")] for case in MLFLOW_2])
    asked = subprocess.run([python, SCRIPT, folder, *REQUIREMENTS], input=bodies, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    answers = json.loads(asked.stdout.splitlines()[-1])
    return {flavour: [seen(status, kind, text.encode()) for status, kind, text in found] for flavour, found in answers.items()}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in MLFLOW_2])
def test_the_worker_answers_as_mlflow_2_does(answers: Answers, flavour: str, case: Case) -> None:
    check(case.deviation, *answers[flavour, case.id])
