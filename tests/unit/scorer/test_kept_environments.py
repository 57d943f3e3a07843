import os
from pathlib import Path

import pytest

from services.scorer.environment import COMPLETE, HOST_PYTHON, environment_folder
from services.scorer.kept_environments import KeptEnvironment, choose_forgotten, forget_environments
from services.scorer.pool_files import model_folder, partial_model_folder
from services.scorer.requirements import read_environment_spec

NOW, KEPT_S, LIMIT = 1_000.0, 100.0, 30


@pytest.mark.parametrize(
    ("found", "needed", "forgotten"),
    [
        pytest.param([("a", 999, 10), ("b", 950, 10)], "", "", id="what was used lately stays"),
        pytest.param([("a", 899, 10), ("b", 950, 10)], "", "a", id="what was not used for too long goes"),
        pytest.param([("a", 100, 10)], "a", "", id="what a model needs stays, however old"),
        pytest.param([("a", 990, 20), ("b", 980, 10), ("c", 970, 10)], "", "c", id="over the limit the longest unused goes first"),
        pytest.param([("a", 990, 20), ("b", 980, 10), ("c", 970, 10)], "c", "b", id="over the limit, too, what is needed stays"),
        pytest.param([("a", 990, 50), ("b", 980, 1)], "a", "b", id="what is needed may take more than the limit alone"),
        pytest.param([("a", 990, 31)], "", "a", id="one that is larger than the limit goes"),
    ],
)
def test_choose_forgotten(found: list[tuple[str, float, int]], needed: str, forgotten: str) -> None:
    kept = [KeptEnvironment(*one) for one in found]
    assert [one.digest for one in choose_forgotten(kept, needed, NOW, KEPT_S, LIMIT)] == list(forgotten)


async def test_environments_of_models_that_are_here_stay(tmp_path: Path) -> None:
    """At zero as well: what a pool of this node wakes with is told by its model's files."""
    for folder in (model_folder(tmp_path, "p-churn-1"), partial_model_folder(tmp_path, "p-next-2")):
        folder.mkdir(parents=True)
    (model_folder(tmp_path, "p-churn-1") / "MLmodel").write_text("mlflow_version: 3.0.0")
    needed = read_environment_spec(model_folder(tmp_path, "p-churn-1"), HOST_PYTHON).digest
    for digest in (needed, "old", "half-built"):
        environment_folder(tmp_path, digest).mkdir(parents=True)
    for digest in (needed, "old"):
        (environment_folder(tmp_path, digest) / COMPLETE).write_text("10")
        os.utime(environment_folder(tmp_path, digest) / COMPLETE, (1, 1))
    await forget_environments(tmp_path, KEPT_S, LIMIT)
    left = {digest for digest in (needed, "old", "half-built") if environment_folder(tmp_path, digest).exists()}
    assert left == {needed, "half-built"}
