"""Where a pool's model workers come from: forked from the environment's warm parent where that can be, else started afresh."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.forked_worker import CannotFork, fork_worker
from services.scorer.imported_modules import add_imports
from services.scorer.worker_process import WorkerDied, WorkerProcess, start_worker
from services.scorer.worker_spec import WorkerSpec
from services.shared.errors import DependencyLost
from services.shared.node import Node, warm_socket
from services.shared.settings import PREFIX

FORKED_LOAD_LIMIT_S = 60.0  # a load that takes longer gains little by a fork, and one that hangs because of it is found out
NOTE_KEPT_S = 24 * 3600.0  # a fork may have been killed for what has passed; one that hangs again costs the limit above

log = logging.getLogger(__name__)


class WorkerSource:
    """Of one pool. `note` is its file that says why its workers are not forked; `tell` gets that once, for the pool's events."""

    def __init__(self, state: Path, environment: str, note: Path, build_log: BuildLog, tell: Callable[[str], Awaitable[None]]) -> None:
        """`environment` is its digest."""
        self._node = Node(state)
        self._environment = environment
        self._warm = warm_socket(state, environment)
        self._note = note
        self._build_log = build_log
        self._tell = tell
        self._untold = ""  # why workers start afresh, if it was not told for this pool

    async def start(self, spec: WorkerSpec) -> WorkerProcess:
        """As `start_worker`. A fork that does not get to load its model is tried afresh, and for a day not again once that has worked."""
        worker = await self._start(spec)
        try:
            await asyncio.to_thread(add_imports, spec.environment_folder, worker.modules)
        except OSError as error:
            log.warning("imports of the model are not written down", extra={"reason": str(error)})
        return worker

    async def _start(self, spec: WorkerSpec) -> WorkerProcess:
        reason = why_fresh(spec, self._note, time.time())
        if reason:
            self._untold = "" if self._note.exists() else reason
            log.info("model worker is started afresh", extra={"reason": reason})
            return await start_worker(spec)
        try:
            limit_s = min(spec.load_limit_s, FORKED_LOAD_LIMIT_S)
            return await start_worker(replace(spec, load_limit_s=limit_s), partial(fork_worker, self._warm))
        except CannotFork as error:
            log.info("model worker is started afresh", extra={"reason": f"There is no warm parent: {error}"})
            return await start_worker(spec)
        except (WorkerDied, DeploymentFailed) as error:
            log.warning("forked model worker failed, starting one afresh", extra={"reason": str(error)})
            worker = await start_worker(spec)
            await self._remember(f"A forked worker failed where a fresh one did not: {error}")
            return worker

    async def prepare_next(self) -> None:
        """Once a worker runs: have the node keep a warm parent for those that follow, and say why they start afresh where they do."""
        if self._untold:
            await self._remember(self._untold)
            self._untold = ""
        try:
            unforkable = await self._node.use_environment(self._environment)
        except DependencyLost as error:
            log.info("no warm parent is asked for", extra={"reason": str(error)})
            return
        if unforkable and not self._note.exists():
            await self._remember(unforkable)

    async def _remember(self, reason: str) -> None:
        """For a day, and told once in the life of the pool."""
        was_told = self._note.exists()
        try:
            self._build_log.write(f"This model's workers start afresh. {reason}")
            self._note.write_text(reason)
        except OSError as error:
            log.warning("cannot write down that workers start afresh", extra={"reason": str(error)})
        if not was_told:
            await self._tell(f"Model workers start afresh, which takes longer. {reason}")


def why_fresh(spec: WorkerSpec, note: Path, now: float) -> str:
    """An empty one where a worker may be forked. `now` is seconds since the epoch."""
    if any(not name.startswith(PREFIX) for name in spec.variables):
        return "The served entity has environment variables, which libraries may read when they are imported."
    if note.exists() and now - note.stat().st_mtime < NOTE_KEPT_S:
        return note.read_text(errors="replace")
    return ""
