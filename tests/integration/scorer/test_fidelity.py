"""Every body of the conformance table, by MLflow's own server and by the model worker process: the same answer, or a listed deviation."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.conformance.bodies import CASES, Case
from tests.conformance.deviations import check
from tests.conformance.models import save_models
from tests.conformance.oracle import Seen, ask_mlflow
from tests.conformance.worker import ask_worker

Answers = dict[tuple[str, str], tuple[Seen, Seen]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """MLflow's answer and the worker's, by model and case."""
    folder = tmp_path_factory.mktemp("conformance")
    with pytest.MonkeyPatch.context() as patch:
        models = save_models(folder)
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # MLflow's server sets it for good
        return asyncio.run(_answers(models, folder))


async def _answers(models: dict[str, Path], folder: Path) -> Answers:
    answers: Answers = {}
    for name, cases in CASES.items():
        theirs = await ask_mlflow(models[name], cases)
        ours = await ask_worker(Path(sys.executable), models[name], folder / "scratch" / name, cases)
        answers |= {(name, case.id): (theirs[case.id], ours[case.id]) for case in cases}
    return answers


@pytest.mark.parametrize(
    ("model", "case"), [pytest.param(model, case, id=f"{model}: {case.id}") for model, cases in CASES.items() for case in cases]
)
def test_the_worker_answers_as_mlflow_does(answers: Answers, model: str, case: Case) -> None:
    check(case.deviation, *answers[model, case.id])
