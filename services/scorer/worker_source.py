"""Where a pool's model workers come from: forked from the environment's warm parent where that can be, else started afresh."""

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.forked_worker import CannotFork, fork_worker
from services.scorer.imported_modules import add_imports
from services.scorer.worker_process import WorkerDied, WorkerProcess, start_worker
from services.scorer.worker_spec import WorkerSpec
from services.shared.settings import PREFIX

FORKED_LOAD_LIMIT_S = 60.0  # a load that takes longer gains little by a fork, and one that hangs because of it is found out

log = logging.getLogger(__name__)


class WorkerSource:
    """`warm` is the socket of the environment's warm parent, `note` the pool's file that says why its workers are not forked."""

    def __init__(self, warm: Path, note: Path, build_log: BuildLog) -> None:
        self._warm = warm
        self._note = note
        self._build_log = build_log

    async def start(self, spec: WorkerSpec) -> WorkerProcess:
        """As `start_worker`. A fork that does not get to load its model is tried afresh, and not again once that has worked."""
        worker = await self._start(spec)
        try:
            await asyncio.to_thread(add_imports, spec.environment_folder, worker.modules)
        except OSError as error:
            log.warning("imports of the model are not written down", extra={"reason": str(error)})
        return worker

    async def _start(self, spec: WorkerSpec) -> WorkerProcess:
        reason = why_fresh(spec, self._note)
        if reason:
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
            self._remember(f"A forked worker failed where a fresh one did not: {error}")
            return worker

    def _remember(self, reason: str) -> None:
        self._build_log.write(f"This model's workers are not forked any more. {reason}")
        try:
            self._note.write_text(reason)
        except OSError as error:
            log.warning("cannot write down that workers are not forked", extra={"reason": str(error)})


def why_fresh(spec: WorkerSpec, note: Path) -> str:
    """An empty one where a worker may be forked."""
    if note.exists():
        return note.read_text(errors="replace")
    if any(not name.startswith(PREFIX) for name in spec.variables):
        return "The served entity has environment variables, which libraries may read when they are imported."
    return ""
