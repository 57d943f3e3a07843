"""One batch from its order to its end: rows, scores, results. Each step finds what an earlier process did of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Literal

from services.ingress.batch_folder import UPLOAD, BatchOrder, Progress, leave_progress, read_order
from services.ingress.submissions.conclusion import ConclusionFailed, conclude
from services.ingress.submissions.cuts import CUTS
from services.ingress.submissions.preparation import ROWS, Source, order_rows, prepare, select_all
from services.ingress.submissions.scoring import Means, Scoring
from services.shared.batches import Batch
from services.shared.clock import now_ms
from services.shared.control_events import BatchEnded
from services.shared.errors import EndpointNotFound, ParameterInvalid
from services.shared.table_places import Place, table_at

State = Literal["SUCCEEDED", "FAILED", "CANCELED"]
CONCLUSION_TRIES = 3
CONCLUSION_PAUSE_S = 10.0
NOT_HERE = "The input of the batch is not on the node that runs batches."
NO_ROOM = "The files of the batch could not be written: the node may lack memory or disk."
FAULT = "An internal fault ended the batch; the service log holds the details."

log = logging.getLogger(__name__)


class BatchRun:
    """`scoring` is there once it is restored where an earlier process had cut something: its results are about to be read."""

    def __init__(self, batch: Batch, folder: Path, tables: Place, means: Means, turns: asyncio.Semaphore, apart: asyncio.Semaphore) -> None:
        """`turns` are those of the endpoint's batches, `apart` those of the node's."""
        self._batch = batch
        self._folder = folder
        self._tables = tables
        self._table = table_at(tables, batch.table) if batch.table else ""
        self._means = means
        self._turns = turns
        self._apart = apart
        self._canceled = asyncio.Event()
        self._order: BatchOrder | None = None
        self._is_readable = True
        self.scoring: Scoring | None = None

    def restore(self) -> None:
        """Reads what an earlier process left, so this belongs in a thread. Files that cannot be read are the end of this batch alone."""
        try:
            self._order = read_order(self._folder)
            if self._order and (self._folder / ROWS).exists() and (self._folder / CUTS).exists():
                self._open_scoring(self._order)
        except Exception:
            log.exception("files of a batch cannot be read", extra={"batch_id": self._batch.batch_id})
            self._is_readable = False

    def cancel(self) -> None:
        self._canceled.set()

    async def run(self, read_to_end: Callable[[], Awaitable[None]]) -> BatchEnded:
        """What became of it, once it was restored."""
        try:
            if not self._is_readable:
                return self._ended("FAILED", FAULT)
            if self._order is None:
                return self._ended("FAILED", NOT_HERE)
            state, message = await self._outcome(self._order, read_to_end)
            return self._ended(state, message) if self.scoring is None else await self._concluded(self.scoring, state, message)
        except Exception:
            log.exception("batch ended by a fault of ours", extra={"batch_id": self._batch.batch_id})
            return self._ended("FAILED", FAULT)

    def close(self) -> None:
        if self.scoring is not None:
            self.scoring.close()

    async def _outcome(self, order: BatchOrder, read_to_end: Callable[[], Awaitable[None]]) -> tuple[State, str]:
        state: State = "FAILED"
        try:
            if await self._unless_canceled(self._score(order, read_to_end)):
                return "SUCCEEDED", ""
            state, message = "CANCELED", ""
        except ParameterInvalid as refusal:
            message = refusal.message
        except EndpointNotFound:
            message = "The endpoint was deleted."
        except OSError:
            log.exception("files of a batch cannot be written", extra={"batch_id": self._batch.batch_id})
            message = NO_ROOM
        if self.scoring is not None:
            await self.scoring.give_up()
        return state, message

    async def _score(self, order: BatchOrder, read_to_end: Callable[[], Awaitable[None]]) -> None:
        """Raises ParameterInvalid, EndpointNotFound, OSError."""
        async with self._turns:
            if self.scoring is None:
                await self._prepared(order)
                await to_its_end(partial(self._open_scoring, order))
            assert self.scoring is not None
            await self.scoring.run(read_to_end)

    async def _prepared(self, order: BatchOrder) -> None:
        """Raises ParameterInvalid."""
        async with self._apart:
            await asyncio.to_thread(leave_progress, self._folder, Progress())
            await asyncio.to_thread(order_rows, self._folder, source_of(order, self._tables, self._table))
            await prepare(self._folder)
        (self._folder / UPLOAD).unlink(missing_ok=True)

    def _open_scoring(self, order: BatchOrder) -> None:
        self.scoring = Scoring(self._batch, order, self._folder, self._means)

    async def _concluded(self, scoring: Scoring, state: State, message: str) -> BatchEnded:
        """Too late to be canceled."""
        await asyncio.to_thread(scoring.keep)
        for left in reversed(range(CONCLUSION_TRIES)):
            try:
                async with self._apart:
                    concluded = await conclude(self._folder, self._table)
                break
            except ConclusionFailed:
                log.warning("results of a batch could not be written", extra={"batch_id": self._batch.batch_id, "tries_left": left})
                if not left:
                    return self._ended("FAILED", NO_ROOM)
                await asyncio.sleep(CONCLUSION_PAUSE_S)
        if concluded.table_fault:
            state, message = "FAILED", concluded.table_fault
        return self._ended(state, message, concluded.rows, concluded.failed, wrote_table=not concluded.table_fault)

    async def _unless_canceled(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it came to its end. Raises what it raises."""
        task = asyncio.create_task(work, name=f"batch-{self._batch.batch_id}")
        canceled = asyncio.create_task(self._canceled.wait(), name=f"cancel-{self._batch.batch_id}")
        try:
            done, _ = await asyncio.wait([task, canceled], return_when=asyncio.FIRST_COMPLETED)
        finally:
            canceled.cancel()
            task.cancel()
            await asyncio.gather(task, canceled, return_exceptions=True)
        if task in done:
            task.result()
        return task in done

    def _ended(self, state: State, message: str, rows: int = 0, failed: int = 0, *, wrote_table: bool = False) -> BatchEnded:
        return BatchEnded(
            at_ms=now_ms(),
            batch_id=self._batch.batch_id,
            state=state,
            message=message,
            rows=rows,
            failed=failed,
            wrote_table=wrote_table,
        )


async def to_its_end(work: Callable[[], None]) -> None:
    """`work` in a thread that is waited for also when cancelled: what it opens can be closed then, and the folder be another's."""
    running = asyncio.create_task(asyncio.to_thread(work), name="to-its-end")
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def source_of(order: BatchOrder, tables: Place, output: str) -> Source:
    match order.kind:
        case "TABLE":
            return Source("SQL", select_all(order.asked), str(tables), order.visible, output)
        case "SQL":
            return Source("SQL", order.asked, str(tables), order.visible, output)
        case form:
            return Source(form, output=output)
