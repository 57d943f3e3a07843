from pathlib import Path

from services.scorer.pool_files import forget_pools, kept_pools, model_folder, model_lock, partial_model_folder, scratch_folder


def test_only_what_belongs_to_a_pool_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    assert kept_pools(tmp_path) == set()
    for folder in (model_folder(tmp_path, "a"), partial_model_folder(tmp_path, "b"), scratch_folder(tmp_path, "c", "c-0")):
        folder.mkdir(parents=True)
    model_lock(tmp_path, "d").touch()
    for name in ("e.proven", "e.proven.123"):
        (tmp_path / "models" / name).touch()
    model_folder(tmp_path, "a-1").mkdir()
    assert kept_pools(tmp_path) == {"a", "a-1", "b", "c", "d", "e"}
    forget_pools(tmp_path, ["a", "b", "c", "d", "e"])
    assert kept_pools(tmp_path) == {"a-1"}
