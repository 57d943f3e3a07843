import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.scorer.environment import COMPLETE, HOST_PYTHON, environment_folder, environment_lock, environments_folder
from services.scorer.kept_environments import KeptEnvironment, choose_forgotten, forget_environments
from services.scorer.node_lock import free_lock
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


def lay(state: Path, digest: str, is_complete: bool) -> None:
    environment_folder(state, digest).mkdir(parents=True)
    (environment_folder(state, digest) / "a package").touch()
    if is_complete:
        mark = environment_folder(state, digest) / COMPLETE
        mark.write_text("10")
        os.utime(mark, (1, 1))


def left(state: Path) -> set[str]:
    return {folder.name for folder in environments_folder(state).iterdir() if folder.is_dir()}


def test_environments_of_models_that_are_here_stay(tmp_path: Path) -> None:
    """At zero as well: what a pool of this node wakes with is told by its model's files."""
    for folder in (model_folder(tmp_path, "p-churn-1"), partial_model_folder(tmp_path, "p-next-2")):
        folder.mkdir(parents=True)
    (model_folder(tmp_path, "p-churn-1") / "MLmodel").write_text("mlflow_version: 3.0.0")
    needed = read_environment_spec(model_folder(tmp_path, "p-churn-1"), HOST_PYTHON).digest
    for digest in (needed, "old"):
        lay(tmp_path, digest, is_complete=True)
    forget_environments(tmp_path, KEPT_S, LIMIT)
    assert left(tmp_path) == {needed}


def test_what_a_broken_off_build_has_left_goes_and_what_is_being_built_or_removed_stays(tmp_path: Path) -> None:
    """A deployment that is cancelled while it builds once left its gigabytes for good."""
    for digest, is_complete in (("broken off", False), ("being built", False), ("old", True), ("old, just taken", True)):
        lay(tmp_path, digest, is_complete)
    with ExitStack() as held:
        for digest in ("being built", "old, just taken"):
            assert held.enter_context(free_lock(environment_lock(tmp_path, digest)))
        forget_environments(tmp_path, KEPT_S, LIMIT)
    assert left(tmp_path) == {"being built", "old, just taken"}


def test_a_model_whose_files_cannot_be_understood_keeps_no_environment_and_keeps_nobody_from_tidying(tmp_path: Path) -> None:
    model_folder(tmp_path, "p-odd-1").mkdir(parents=True)
    (model_folder(tmp_path, "p-odd-1") / "python_env.yaml").touch()
    lay(tmp_path, "old", is_complete=True)
    forget_environments(tmp_path, KEPT_S, LIMIT)
    assert left(tmp_path) == set()
