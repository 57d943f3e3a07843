"""What came of a model, beside what MLflow says there is."""

from pathlib import Path

import pytest
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from services.scorer.model_download import listed, unlike


def test_a_stores_folders_are_looked_into(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "data" / "deep" / "weights").write_bytes(b"12345")
    found = {(file.path, file.file_size) for file in listed(get_artifact_repository(tmp_path.as_uri()))}
    assert found == {("MLmodel", 11), ("data/deep/weights", 5)}


@pytest.mark.parametrize(
    ("size", "path", "said"),
    [
        pytest.param(5, "weights", [], id="whole"),
        pytest.param(6, "weights", ["weights (5 of 6 bytes)"], id="cut short"),
        pytest.param(5, "more", ["more (missing)"], id="not there"),
        pytest.param(None, "weights", [], id="of a store that tells no sizes"),
    ],
)
def test_what_did_not_come_whole_is_named(tmp_path: Path, size: int | None, path: str, said: list[str]) -> None:
    (tmp_path / "weights").write_bytes(b"12345")
    assert list(unlike([FileInfo(path, False, size)], tmp_path)) == said
