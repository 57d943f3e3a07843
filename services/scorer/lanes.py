"""Dispatch to the model worker: lanes, crashes, evaluations that take too long (design §4, R13)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from opentelemetry import metrics

from services.scorer.answers import CRASHED, EXPIRED, MAX_CRASHES, TIMED_OUT, Answer, is_expired
from services.scorer.attempts import Attempts
from services.scorer.build_log import DeploymentFailed
from services.scorer.worker_process import WorkerDied, WorkerProcess
from services.shared.clock import now_ms
from services.shared.envelope import ScoringRequest
from services.shared.telemetry import WORKER_RESTARTS

LOAD_TRIES = 3
MAX_BACKOFF_S = 10.0

log = logging.getLogger(__name__)


class Lanes:
    """One model worker at a time, kept alive. After a crash every request that was in it runs again, alone."""

    def __init__(self, start_worker: Callable[[], Awaitable[WorkerProcess]], attempts: Attempts, limit_s: float) -> None:
        self._start_worker = start_worker
        self._attempts = attempts
        self._limit_s = limit_s
        self._worker: WorkerProcess | None = None
        self._changed = asyncio.Condition()
        self._inside = 0  # evaluations in the worker now
        self._suspects = 0  # requests that wait for the worker, or have it, for themselves
        self._alone = False
        self._restarts = metrics.get_meter("penstock").create_counter(WORKER_RESTARTS)

    async def start(self) -> None:
        """Load the model for the first time. Raises DeploymentFailed when it does not load, or dies loading three times."""
        for attempt in range(1, LOAD_TRIES + 1):
            try:
                self._worker = await self._start_worker()
                return
            except WorkerDied as error:
                log.warning("model worker died while loading", extra={"attempt": attempt, "error": str(error)})
        raise DeploymentFailed("The model's process died while loading the model. Please see service logs for more information.")

    async def keep_alive(self) -> None:
        """Replace the worker whenever it dies, with backoff; runs until cancelled."""
        while True:
            assert self._worker is not None, "start() comes first"
            await self._worker.ended()
            async with self._changed:
                self._worker = None
            worker = await self._restarted()
            async with self._changed:
                self._worker = worker
                self._changed.notify_all()

    async def stop(self) -> None:
        if self._worker is not None:
            await self._worker.stop()

    async def evaluate(self, request: ScoringRequest, crashes: int = 0) -> tuple[Answer, int]:
        """Score one request, however many workers that takes; return the answer and the crashes that were counted for it.

        `crashes` are those known from an earlier delivery.
        """
        while crashes < MAX_CRASHES:
            async with self._turn(alone=crashes > 0) as worker:
                if is_expired(request, now_ms()):
                    return EXPIRED, crashes
                try:
                    return await self._score(worker, request), crashes
                except WorkerDied as death:
                    if death.blamed:
                        crashes = await self._attempts.count(request.request_id, crashes)
                        log.warning("model worker died under a request", extra={"request_id": request.request_id, "attempt": crashes})
        return CRASHED, crashes

    async def _score(self, worker: WorkerProcess, request: ScoringRequest) -> Answer:
        try:
            async with asyncio.timeout(self._limit_s):
                return await worker.score(request.content_type, request.body)
        except TimeoutError:
            log.warning("evaluation took too long, replacing the model worker", extra={"request_id": request.request_id})
            worker.replace()
            return replace(TIMED_OUT, duration_s=self._limit_s)

    @asynccontextmanager
    async def _turn(self, *, alone: bool) -> AsyncIterator[WorkerProcess]:
        """A place in a live worker; `alone` waits for an empty one and keeps others out."""
        async with self._changed:
            self._suspects += alone
            try:
                await self._changed.wait_for(lambda: self._worker_for(alone) is not None)
            except BaseException:
                self._suspects -= alone
                self._changed.notify_all()
                raise
            worker = self._worker
            assert worker is not None
            self._inside += 1
            self._alone = alone
        try:
            yield worker
        finally:
            async with self._changed:
                self._inside -= 1
                self._suspects -= alone
                self._alone = False if alone else self._alone
                self._changed.notify_all()

    def _worker_for(self, alone: bool) -> WorkerProcess | None:
        if self._worker is None or self._worker.dead or self._alone:
            return None
        if alone:
            return None if self._inside else self._worker
        return None if self._suspects else self._worker

    async def _restarted(self) -> WorkerProcess:
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            self._restarts.add(1)
            log.info("restarting the model worker")
            try:
                return await self._start_worker()
            except (WorkerDied, DeploymentFailed) as error:
                log.warning("model worker does not come back", extra={"error": str(error)})
                pause_s = min(MAX_BACKOFF_S, pause_s * 2 or 0.5)
