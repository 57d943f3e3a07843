"""What a node keeps on disk for a pool, and the forgetting of it when the pool is gone."""

import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

_LOCK, _PARTIAL, _ORIGIN, _PROVEN = (
    ".lock",
    ".partial",
    ".origin",
    ".proven",
)  # the last is written by model workers (`model_worker/proven.py`)


def model_folder(state: Path, pool_id: str) -> Path:
    return state / "models" / pool_id


def partial_model_folder(state: Path, pool_id: str) -> Path:
    """Where a download goes until it is whole."""
    return state / "models" / f"{pool_id}{_PARTIAL}"


def model_origin(state: Path, pool_id: str) -> Path:
    """Says which version of which model its files are (`model_download.py`)."""
    return state / "models" / f"{pool_id}{_ORIGIN}"


def model_lock(state: Path, pool_id: str) -> Path:
    return state / "models" / f"{pool_id}{_LOCK}"


def scratch_folder(state: Path, pool_id: str, replica_id: str) -> Path:
    """The working folder of a replica's model."""
    return state / "scratch" / pool_id / replica_id


def unforkable_note(state: Path, pool_id: str) -> Path:
    """Says why workers of this pool are not forked; where there is none, they may be."""
    return state / "scratch" / pool_id / "started-afresh.txt"


def fetched_models(state: Path) -> list[Path]:
    """Folders of the models that are here as a whole."""
    return [entry for entry in (state / "models").glob("*") if entry.is_dir() and entry.suffix != _PARTIAL]


def kept_pools(state: Path) -> set[str]:
    """Pools that have files here."""
    found = [entry.name for kind in ("models", "scratch") if (state / kind).is_dir() for entry in (state / kind).iterdir()]
    return {re.sub(rf"({_LOCK}|{_PARTIAL}|{_ORIGIN}|{_PROVEN}(\.\d+)?)$", "", name) for name in found}


def forget_pools(state: Path, pool_ids: Iterable[str]) -> None:
    """Remove their files. The pools must be gone: whoever held their lock is not there any more."""
    for pool_id in pool_ids:
        log.info("forgetting the files of a pool that is gone", extra={"pool_id": pool_id})
        for folder in (model_folder(state, pool_id), partial_model_folder(state, pool_id), state / "scratch" / pool_id):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (state / "models").glob(f"{pool_id}{_PROVEN}*"):
            file.unlink(missing_ok=True)
        for file in (model_origin(state, pool_id), model_lock(state, pool_id)):
            file.unlink(missing_ok=True)
