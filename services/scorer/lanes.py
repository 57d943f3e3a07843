"""Dispatch to the model worker: lanes, crashes, evaluations that take too long (design §4, R13)."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from opentelemetry import metrics

from services.scorer.answers import CRASHED, EXPIRED, MAX_CRASHES, TIMED_OUT, Answer, is_expired
from services.scorer.attempts import Attempts
from services.scorer.batching import choose_batch, is_bulk, lanes_for, most_members, next_share_s
from services.scorer.build_log import DeploymentFailed
from services.scorer.worker_process import WorkerDied, WorkerProcess
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.envelope import ScoringRequest
from services.shared.telemetry import WORKER_RESTARTS

LOAD_TRIES = 3
MAX_BACKOFF_S = 10.0

log = logging.getLogger(__name__)


class _TookTooLong(Exception):
    """A batch went over the limit: which member's fault that is shows when each runs alone."""


@dataclass(slots=True)
class _Waiting:
    request: ScoringRequest
    answered: "asyncio.Future[Answer]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Lanes:
    """One model worker at a time, kept alive. A lane that comes free takes what waits, together if the model allows it.

    After a crash every request that was in the worker runs again, alone.
    """

    def __init__(self, start_worker: Callable[[], Awaitable[WorkerProcess]], attempts: Attempts, limit_s: float) -> None:
        self._start_worker = start_worker
        self._attempts = attempts
        self._limit_s = limit_s
        self._worker: WorkerProcess | None = None
        self._changed = asyncio.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._share_s: float | None = None  # of an evaluation, for one request
        self._together = False
        self._scoring = 0  # requests taken by lanes
        self._inside = 0  # evaluations in the worker now
        self._suspects = 0  # requests that wait for the worker, or have it, for themselves
        self._alone = False
        self._restarts = metrics.get_meter("penstock").create_counter(WORKER_RESTARTS)

    async def start(self) -> None:
        """Load the model for the first time. Raises DeploymentFailed when it does not load, or dies loading three times."""
        for attempt in range(1, LOAD_TRIES + 1):
            try:
                self._worker = await self._start_worker()
                self._together = self._worker.row_wise
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

    @property
    def capacity(self) -> int:
        """How many requests may be in here now: those being scored, and a batch ready for the next lane that comes free."""
        return self._scoring + most_members(self._share_s) if self._together else LANES_PER_REPLICA

    @property
    def policy(self) -> str:
        """Whether requests are scored together, and why; one sentence for the build log."""
        assert self._worker is not None, "start() comes first"
        return f"Requests are scored {'together' if self._worker.row_wise else 'one by one'}: {self._worker.why}."

    async def stop(self) -> None:
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        if self._worker is not None:
            await self._worker.stop()

    async def evaluate(self, request: ScoringRequest, crashes: int = 0) -> tuple[Answer, int]:
        """Score one request, however many workers that takes; return the answer and the crashes that were counted for it.

        `crashes` are those known from an earlier delivery.
        """
        alone = crashes > 0
        while crashes < MAX_CRASHES:
            try:
                return await (self._score_alone(request) if alone else self._score_in_turn(request)), crashes
            except _TookTooLong:
                alone = True
            except WorkerDied as death:
                if death.blamed:
                    alone = True
                    crashes = await self._attempts.count(request.request_id, crashes)
                    log.warning("model worker died under a request", extra={"request_id": request.request_id, "attempt": crashes})
        return CRASHED, crashes

    async def _score_in_turn(self, request: ScoringRequest) -> Answer:
        mine = _Waiting(request)
        self._waiting.append(mine)
        if len(self._lanes) < (lanes_for(self._share_s) if self._together else LANES_PER_REPLICA):
            lane = asyncio.create_task(self._work_off(), name="lane")
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await mine.answered

    async def _score_alone(self, request: ScoringRequest) -> Answer:
        async with self._turn(alone=True) as worker:
            mine = _Waiting(request)
            await self._score(worker, [mine])
            return await mine.answered

    async def _work_off(self) -> None:
        """One lane, until nothing waits."""
        while self._waiting:
            async with self._turn(alone=False) as worker:
                batch = self._take_batch(worker)
                self._scoring += len(batch)
                try:
                    await self._score(worker, batch)
                finally:
                    self._scoring -= len(batch)

    def _take_batch(self, worker: WorkerProcess) -> list[_Waiting]:
        self._together = worker.row_wise
        count = choose_batch([len(w.request.body) for w in self._waiting], self._share_s) if worker.row_wise else 1
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    async def _score(self, worker: WorkerProcess, batch: list[_Waiting]) -> None:
        """Give each member its answer, WorkerDied, or _TookTooLong."""
        for member in batch:
            if is_expired(member.request, _now_ms()) and not member.answered.done():
                member.answered.set_result(EXPIRED)
        batch = [member for member in batch if not member.answered.done()]
        if not batch:
            return
        try:
            async with asyncio.timeout(self._limit_s):
                scoring = await worker.score([(m.request.content_type, m.request.body) for m in batch])
                for member, answer in zip(batch, scoring, strict=True):
                    _pass_on(answer, member.answered)
                await asyncio.wait(scoring)
        except TimeoutError:
            log.warning("evaluation took too long, replacing the model worker", extra={"request_id": batch[0].request.request_id})
            for member in batch:
                if not member.answered.done() and len(batch) == 1:
                    member.answered.set_result(replace(TIMED_OUT, duration_s=self._limit_s))
                elif not member.answered.done():
                    member.answered.set_exception(_TookTooLong())
            worker.replace()
        except Exception as error:  # noqa: BLE001  WorkerDied, or a fault here: whoever waits decides
            for member in batch:
                if not member.answered.done():
                    member.answered.set_exception(error)
        else:
            self._learn(batch, [a.result() for a in scoring if not a.exception()])

    def _learn(self, batch: list[_Waiting], answers: list[Answer]) -> None:
        if answers and not is_bulk(len(batch[0].request.body)):
            self._share_s = next_share_s(self._share_s, sum(a.duration_s / a.together for a in answers) / len(answers))

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


def _pass_on(source: "asyncio.Future[Answer]", target: "asyncio.Future[Answer]") -> None:
    """A member's answer goes on as soon as it is there: neighbours that are scored alone may take longer."""

    def hand(done: "asyncio.Future[Answer]") -> None:
        error = None if done.cancelled() else done.exception()  # asked for, so that it is never "not retrieved"
        if target.done() or done.cancelled():
            return
        if error is not None:
            target.set_exception(error)
        else:
            target.set_result(done.result())

    source.add_done_callback(hand)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
