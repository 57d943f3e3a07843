"""Runs batches: each to its end, whoever began it; and forgets those that have ended, when their time is over."""

import asyncio
import fcntl
import logging
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from services.ingress.batch_folder import ORDER, PROGRESS
from services.ingress.batch_routes import FORMS
from services.ingress.settings import IngressServiceSettings
from services.ingress.submissions.batch_run import BatchRun, to_its_end
from services.ingress.submissions.result_feed import ResultFeed
from services.ingress.submissions.scoring import Means
from services.shared.batches import Batch, BatchState
from services.shared.clock import now_ms
from services.shared.control_events import BatchEnded, BatchForgotten
from services.shared.endpoints import ControlState
from services.shared.errors import DependencyLost, RequestRejected
from services.shared.event_log import EventLog
from services.shared.results import ScoringResult
from services.shared.topics import HOUR_MS

OF_AN_ENDPOINT = 4  # scored beside one another; others wait
APART = 2  # processes that read inputs and write results
TIDY_EVERY_S = 60.0
ORPHAN_S = 24 * 3600.0  # a folder whose event never came; an upload does not take as long
LOCK, LOCK_PAUSE_S = ".lock", 1.0
KEPT = {ORDER, PROGRESS, *(name for name, _ in FORMS.values())}  # of a batch that has ended
RETRY_S = 1.0

log = logging.getLogger(__name__)


class BatchRunner:
    def __init__(self, settings: IngressServiceSettings, events: EventLog, means: Means) -> None:
        self._folder = settings.batches_folder
        self._tables = settings.tables_place
        self._kafka = settings.kafka
        self._kept_ms = int(settings.ingress.batches_kept_h * HOUR_MS)
        self._events = events
        self._means = means
        self._runs: dict[str, BatchRun] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(OF_AN_ENDPOINT))
        self._apart = asyncio.Semaphore(APART)
        self._keeping = asyncio.Lock()  # nothing is closed while it is kept

    async def run(self) -> None:
        """Runs until cancelled. What another process of the node cut and settled is complete before this one begins."""
        lock = await self._locked()
        feed = ResultFeed(self._kafka, self._take, self._keep)
        try:
            await feed.start()
            for batch in running(self._events.snapshot()):
                await self._new_run(batch)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(feed.run(), name="batch-results")
                tasks.create_task(self._tidy(), name="batches-tidy")
                await feed.read_to_end()
                await self._follow(tasks, feed)
        finally:
            await feed.stop()
            for run in self._runs.values():
                run.close()
            self._runs.clear()
            self._tasks.clear()
            os.close(lock)

    async def _follow(self, tasks: asyncio.TaskGroup, feed: ResultFeed) -> None:
        """Begin what is submitted, end what is canceled."""
        while True:
            state = self._events.snapshot()
            for batch in running(state):
                if not self._events.snapshot().batches[batch.batch_id].is_running:
                    continue  # it ended while the run of another was made
                if batch.batch_id not in self._runs:
                    await self._new_run(batch)
                run = self._runs[batch.batch_id]
                if batch.state is BatchState.CANCELING:
                    run.cancel()
                if batch.batch_id not in self._tasks:
                    self._tasks[batch.batch_id] = tasks.create_task(self._ended(batch, run, feed), name="batch")
            await self._events.changed(state.next_offset)

    async def _ended(self, batch: Batch, run: BatchRun, feed: ResultFeed) -> None:
        event = await run.run(feed.read_to_end)
        await self._publish(event)
        log.info("batch ended", extra={"batch_id": batch.batch_id, "state": event.state, "rows": event.rows, "failed": event.failed})
        del self._runs[batch.batch_id], self._tasks[batch.batch_id]
        try:
            async with self._keeping:
                await asyncio.to_thread(run.close)
        finally:
            run.close()  # when cancelled the thread may never have begun
        await asyncio.to_thread(_clear, self._folder / batch.batch_id)

    def _take(self, result: ScoringResult) -> None:
        """Of a batch that has ended nobody asks any more."""
        run = self._runs.get(result.submission)
        if run is not None and run.scoring is not None:
            run.scoring.take(result)

    async def _keep(self) -> None:
        async with self._keeping:
            for run in list(self._runs.values()):
                if run.scoring is not None:
                    await asyncio.to_thread(run.scoring.keep)

    async def _new_run(self, batch: Batch) -> None:
        folder, turns = self._folder / batch.batch_id, self._turns[batch.endpoint_id]
        run = self._runs[batch.batch_id] = BatchRun(batch, folder, self._tables, self._means, turns, self._apart)
        await to_its_end(run.restore)

    async def _tidy(self) -> None:
        while True:
            for batch in over(self._events.snapshot(), now_ms() - self._kept_ms):
                await asyncio.to_thread(shutil.rmtree, self._folder / batch.batch_id, ignore_errors=True)
                await self._publish(BatchForgotten(at_ms=now_ms(), batch_id=batch.batch_id))
            await asyncio.to_thread(self._remove_rest, self._events.snapshot().batches)
            await asyncio.sleep(TIDY_EVERY_S)

    def _remove_rest(self, batches: Mapping[str, Batch]) -> None:
        """Folders of what was never submitted, and what a batch that has ended needs no more."""
        for folder in self._folder.iterdir():
            batch = batches.get(folder.name)
            if batch is None and is_orphan(folder):
                shutil.rmtree(folder, ignore_errors=True)
            elif batch is not None and not batch.is_running and batch.batch_id not in self._runs:
                _clear(folder)

    async def _publish(self, event: BatchEnded | BatchForgotten) -> None:
        """Until the log has it; a repeat gets the first verdict."""
        while True:
            try:
                with suppress(RequestRejected):  # another process did as much before
                    await self._events.publish(event)
                return
            except DependencyLost:
                log.warning("the end of a batch cannot be written, trying again", extra={"batch_id": event.batch_id})
                await asyncio.sleep(RETRY_S)

    async def _locked(self) -> int:
        """The folder is this process' until it closes the descriptor, or ends: one that hung, and lost its lead, may go on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return lock
                except BlockingIOError:
                    await asyncio.sleep(LOCK_PAUSE_S)
        except BaseException:
            os.close(lock)
            raise


def running(state: ControlState) -> list[Batch]:
    return [batch for batch in state.batches.values() if batch.is_running]


def over(state: ControlState, before_ms: int) -> Iterable[Batch]:
    """Those that ended before then."""
    return [b for b in state.batches.values() if b.state is not BatchState.FORGOTTEN and b.ended_ms is not None and b.ended_ms < before_ms]


def is_orphan(folder: Path) -> bool:
    """Not where it goes at this moment: an ingress removes what it refused."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > ORPHAN_S


def _clear(folder: Path) -> None:
    """Leaves the order and the results."""
    with suppress(FileNotFoundError):
        for file in folder.iterdir():
            if file.name not in KEPT:
                file.unlink(missing_ok=True)
