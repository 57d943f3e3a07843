"""A model version's files, of a real MLflow registry: fetched once a node, and never those of another version."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.model_files import fetch_model
from services.scorer.pool_files import forget_pools, kept_pools
from services.shared.control_events import EntitySpec
from services.shared.endpoints import Pool

HERE_ALREADY = "on this node already"


class Registry:
    """Asked by processes of their own: MLflow's store leaves connections to its database open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"

    def register(self, weights: str) -> None:
        """The next version of the model."""
        source = self._folder / f"source-{weights}"
        source.mkdir()
        (source / "MLmodel").write_text("flavors: {}\n")
        (source / "weights").write_text(weights)
        self._ask(
            "if not client.search_registered_models(\"name='churn'\"): client.create_registered_model('churn')",
            f"client.create_model_version('churn', '{source.as_uri()}')",
        )

    def forget(self) -> None:
        self._ask("client.delete_registered_model('churn')")

    def _ask(self, *lines: str) -> None:
        script = "\n".join(["import mlflow", f"client = mlflow.MlflowClient('{self.uri}')", *lines])
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry")


async def fetched(registry: Registry, state: Path, pool_id: str, version: str = "1") -> tuple[str, str]:
    """The weights that came, and what the build log says."""
    log = state / f"{pool_id}.log"
    pool = Pool(pool_id, "e1", "churn", EntitySpec(name="a", model_name="churn", model_version=version), "ada")
    folder = await fetch_model(pool, state, registry.uri, BuildLog(log))
    return (folder / "weights").read_text(), log.read_text()


async def test_another_pool_of_the_version_has_its_files_from_this_node(registry: Registry, tmp_path: Path) -> None:
    registry.register("first")
    weights, said = await fetched(registry, tmp_path, "e1-a-1")
    assert weights == "first"
    assert HERE_ALREADY not in said
    weights, said = await fetched(registry, tmp_path, "e1-a-2")
    assert weights == "first"
    assert HERE_ALREADY in said
    forget_pools(tmp_path, ["e1-a-1", "e1-a-2"])
    assert kept_pools(tmp_path) == set()


async def test_a_model_registered_anew_is_another_though_its_version_is_the_first_again(registry: Registry, tmp_path: Path) -> None:
    registry.register("first")
    await fetched(registry, tmp_path, "e1-a-1")
    registry.forget()
    registry.register("second")
    weights, said = await fetched(registry, tmp_path, "e2-a-1")
    assert weights == "second"
    assert HERE_ALREADY not in said


async def test_a_version_that_is_gone_from_the_registry_is_not_served_of_another_pools_files(registry: Registry, tmp_path: Path) -> None:
    registry.register("first")
    await fetched(registry, tmp_path, "e1-a-1")
    registry.forget()
    with pytest.raises(DeploymentFailed, match="cannot be fetched"):
        await fetched(registry, tmp_path, "e2-a-1")
