"""What came of a model, beside what MLflow says there is."""

from pathlib import Path

import pytest
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from services.scorer.model_download import copied, listed, unlike


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


FILES = [FileInfo("MLmodel", False, 5), FileInfo("data/weights", False, 3)]


def kept(models: Path, pool_id: str, origin: str, weights: bytes = b"abc") -> None:
    (models / pool_id / "data").mkdir(parents=True)
    (models / pool_id / "MLmodel").write_bytes(b"model")
    (models / pool_id / "data" / "weights").write_bytes(weights)
    (models / f"{pool_id}.origin").write_text(origin)


def test_files_of_the_same_version_are_copied_of_another_pool(tmp_path: Path) -> None:
    kept(tmp_path, "other", "version 1", b"xyz")
    kept(tmp_path, "same", "version 2")
    assert copied(tmp_path / "mine.origin", "version 2", FILES, tmp_path / "mine.partial") == "same"
    assert (tmp_path / "mine.partial" / "data" / "weights").read_bytes() == b"abc"
    (tmp_path / "mine.partial" / "data" / "weights").write_bytes(b"mine")
    assert (tmp_path / "same" / "data" / "weights").read_bytes() == b"abc", "what a model writes to its files is its own"


def test_files_that_are_not_whole_or_gone_are_not_taken(tmp_path: Path) -> None:
    kept(tmp_path, "cut-short", "version 2", b"a")
    (tmp_path / "gone.origin").write_text("version 2")
    kept(tmp_path, "other", "version 1")
    assert copied(tmp_path / "mine.origin", "version 2", FILES, tmp_path / "mine.partial") == ""
    assert list((tmp_path / "mine.partial").iterdir()) == [], "of what was tried nothing is left"
