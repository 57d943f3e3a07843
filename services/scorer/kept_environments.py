"""Which of a node's environments are kept when no model here needs them any more."""

import logging
import shutil
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.scorer.build_log import DeploymentFailed
from services.scorer.environment import COMPLETE, HOST_PYTHON, environment_folder, environment_lock, environments_folder, read_mark
from services.scorer.node_lock import free_lock
from services.scorer.pool_files import fetched_models
from services.scorer.requirements import read_environment_spec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptEnvironment:
    """`used_at` is when a replica last started with it, epoch seconds."""

    digest: str
    used_at: float
    size_bytes: int


def choose_forgotten(
    found: Sequence[KeptEnvironment], needed: Container[str], now: float, kept_s: float, limit_bytes: int
) -> list[KeptEnvironment]:
    """What no model needs goes when it was not used for `kept_s`, and sooner, longest unused first, while all take more than the limit.

    What is needed stays, however much it takes: without it a pool could not wake.
    """
    spare = sorted((one for one in found if one.digest not in needed), key=lambda one: one.used_at)
    excess = sum(one.size_bytes for one in found) - limit_bytes
    forgotten = []
    for one in spare:
        if excess > 0 or now - one.used_at > kept_s:
            forgotten.append(one)
            excess -= one.size_bytes
    return forgotten


def forget_environments(state: Path, kept_s: float, limit_bytes: int) -> None:
    """Remove what is not kept, and what a build that was broken off has left. One that is being built, or was taken into use
    meanwhile, stays. It may take long: nothing for an event loop.
    """
    found = _find_environments(state)
    complete = [one for one in found.values() if one is not None]
    too_many = choose_forgotten(complete, needed_digests(state), time.time(), kept_s, limit_bytes)
    half_built = [digest for digest, one in found.items() if one is None]
    for digest in (*half_built, *(one.digest for one in too_many)):
        with free_lock(environment_lock(state, digest)) as is_free:
            if is_free and _found(state, digest) == found[digest] and (digest in half_built or digest not in needed_digests(state)):
                log.info("forgetting an environment", extra={"environment": digest, "complete": digest not in half_built})
                _remove(environment_folder(state, digest))


def needed_digests(state: Path) -> set[str]:
    """Of the models that lie here: those of pools that are there, at zero too."""
    needed = set()
    for model in fetched_models(state):
        try:
            needed.add(read_environment_spec(model, HOST_PYTHON).digest)
        except DeploymentFailed as error:  # its own deployment says so, and needs none
            log.info("environment of a model cannot be told", extra={"model": str(model), "reason": str(error)})
    return needed


def _find_environments(state: Path) -> dict[str, KeptEnvironment | None]:
    """By digest; None: it is not complete."""
    return {folder.name: _found(state, folder.name) for folder in environments_folder(state).glob("*") if folder.is_dir()}


def _found(state: Path, digest: str) -> KeptEnvironment | None:
    mark = read_mark(state, digest)
    return None if mark is None else KeptEnvironment(digest, *mark)


def _remove(folder: Path) -> None:
    """The mark first: who is killed meanwhile leaves nothing that passes for whole."""
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
