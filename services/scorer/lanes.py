"""Dispatch to the model worker: lanes, micro-batches, crashes, evaluations that take too long (design §4, R13)."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, replace
from math import inf

from opentelemetry import metrics

from services.scorer.answers import CRASHED, FAILED_HERE, MAX_CRASHES, OVER_MEMORY, TIMED_OUT, Answer
from services.scorer.attempts import Attempts
from services.scorer.backoff import Backoff
from services.scorer.batching import choose_batch, is_large, lanes_for, most_members, next_share_s
from services.scorer.build_log import DeploymentFailed
from services.scorer.evaluation_meter import EvaluationMeter
from services.scorer.jobs import Job, why_not_score
from services.scorer.patience import Patience
from services.scorer.worker_process import WorkerDied, WorkerProcess, said_last
from services.scorer.worker_usage import WorkerUsage
from services.shared.clock import now_ms
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.telemetry import WORKER_RESTARTS

LOAD_TRIES = 3
MOST_FAILURES = 6  # of workers in a row, with the pauses between them some 8 s and their loads
STEADY_AFTER_S = 30.0  # a worker that lived this long was well
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 10.0
ENDED = "The model's process ended and is started again."
TOOK_TOO_MUCH = "The model's process took more memory than its limit and is started again."

log = logging.getLogger(__name__)


class WorkerLost(Exception):
    """No worker of this model stays: another replica may have its requests, and a start from the beginning tells what is wrong."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one lane evaluates. `is_single`: a large request, or one that could not be scored with others."""

    jobs: list[Job]
    is_single: bool = False


class Lanes:
    """One model worker at a time, kept alive. A lane that comes free takes what waits, together if the model allows it.

    What was in a worker that died, or in a batch that took too long, runs again alone: with the worker to itself.
    """

    def __init__(
        self,
        start_worker: Callable[[], Awaitable[WorkerProcess]],
        attempts: Attempts,
        meter: EvaluationMeter,
        limit_s: float,
        cancelled: Container[str] = (),
        beside: asyncio.Event | None = None,
    ) -> None:
        """`beside` is set as `freed` is, for whoever takes only what these lanes leave."""
        self._start_worker = start_worker
        self._attempts = attempts
        self._meter = meter
        self._limit_s = limit_s
        self._cancelled = cancelled
        self._worker: WorkerProcess | None = None
        self._waiting: deque[Job] = deque()
        self._large: deque[Job] = deque()
        self._singles: deque[Job] = deque()  # came back from a batch: each has a lane to itself
        self._suspects: deque[Job] = deque()
        self._running: dict[asyncio.Task[None], _Batch] = {}
        self._alone = False  # a suspect has the worker
        self._share_s: float | None = None  # of an evaluation, for one request that is not single
        self._company = Backoff(longest_pause=256)  # requests
        self._patience = Patience()
        self._hold: asyncio.TimerHandle | None = None  # the end of a lane's patience
        self.trouble = ""  # why there is no worker now, for the user
        self.freed = asyncio.Event()  # set whenever there is room again; whoever waits clears it
        self._beside = beside
        self._restarts = metrics.get_meter("penstock").create_counter(WORKER_RESTARTS)

    @property
    def in_flight(self) -> int:
        """Requests that wait or are in evaluation, answered late or not."""
        return self._scoring + self.waiting

    @property
    def waiting(self) -> int:
        """Requests that no lane has taken yet."""
        return sum(map(len, (self._waiting, self._large, self._singles, self._suspects)))

    @property
    def capacity(self) -> int:
        """How many may be in flight: those being scored, and a batch ready for the next lane that comes free."""
        return self._scoring + most_members(self._share_s) if self.is_row_wise else LANES_PER_REPLICA

    @property
    def is_row_wise(self) -> bool:
        """Whether requests are scored together."""
        return self._worker is not None and self._worker.traits.row_wise

    @property
    def usage(self) -> WorkerUsage | None:
        """None while there is no worker."""
        return self._worker.usage if self._worker else None

    @property
    def policy(self) -> str:
        """Whether requests are scored together, and why; one sentence for the build log."""
        assert self._worker is not None, "start() comes first"
        traits = self._worker.traits
        together = f"together, {self._lanes()} batch{'es' * traits.waits} at a time" if traits.row_wise else "one by one"
        return f"Requests are scored {together}: {traits.why}."

    async def start(self) -> None:
        """Load the model for the first time. Raises DeploymentFailed when it does not load, or dies loading three times."""
        said = ""
        for attempt in range(1, LOAD_TRIES + 1):
            try:
                self._worker = await self._start_worker()
                self._meter.loaded(self._worker.traits, self._lanes())
                return
            except WorkerDied as error:
                log.warning("model worker died while loading", extra={"attempt": attempt, "error": str(error)})
                said = error.said
        raise DeploymentFailed(f"The model's process died while loading the model. {said_last(said)}")

    async def keep_alive(self, most_failures: float = inf) -> None:
        """Replace the worker whenever it dies, with backoff; runs until cancelled.

        Raises WorkerLost when so many in a row did not load, or died soon with no request in them: what a request did is counted for it.
        """
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            assert self._worker is not None, "start() comes first"
            worker, began_at = self._worker, loop.time()
            await worker.ended()
            failures = failures + 1 if worker.died_idle and loop.time() - began_at < STEADY_AFTER_S else 0
            self.trouble = TOOK_TOO_MUCH if worker.usage.over_memory else ENDED
            self._worker = None
            while self._worker is None:
                if failures >= most_failures:
                    raise WorkerLost(f"{failures} model workers in a row were lost. {self.trouble}")
                await asyncio.sleep(pause_s(failures))
                self._worker = await self._restarted()
                failures += self._worker is None
            self.trouble = ""
            self._dispatch()

    async def stop(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._worker is not None:
            await self._worker.stop()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Score each, however many workers that takes, and give it its answer. Who has least time left goes first."""
        for job in sorted(jobs, key=lambda job: job.request.deadline_ms):
            self._put(job)
        self._dispatch()

    @property
    def _scoring(self) -> int:
        return sum(len(batch.jobs) for batch in self._running.values())

    def _lanes(self) -> int:
        """For requests that are scored together, if the model allows that."""
        if self._worker is None or not self._worker.traits.row_wise:
            return LANES_PER_REPLICA
        return lanes_for(self._worker.traits.waits)

    def _put(self, job: Job) -> None:
        if job.crashes:
            self._suspects.append(job)
        elif is_large(len(job.request.body)):
            self._large.append(job)
        else:
            self._waiting.append(job)

    def _dispatch(self) -> None:
        """Fill the lanes that are free."""
        while (worker := self._worker) is not None and not worker.dead and not self._alone:
            batch = self._next_batch()
            if not batch.jobs:
                return
            task = asyncio.create_task(self._run(worker, batch), name="lane")
            self._running[task] = batch
            task.add_done_callback(self._lane_done)

    def _next_batch(self) -> _Batch:
        """A suspect waits until the worker is empty, and keeps others out. Singles leave a lane to what waits, large ones always."""
        if self._suspects and self._running:
            return _Batch([])
        if suspect := self._taken(self._suspects, 1):
            self._alone = True
            return _Batch(suspect, is_single=True)
        if len(self._running) >= LANES_PER_REPLICA:
            return _Batch([])
        singles = sum(batch.is_single for batch in self._running.values())
        if singles < max(1, self._lanes() - 1) and (large := self._taken(self._large, 1)):
            return _Batch(large, is_single=True)
        if (singles < LANES_PER_REPLICA - 1 or not self._waiting) and (single := self._taken(self._singles, 1)):
            return _Batch(single, is_single=True)
        if not self.is_row_wise:
            return _Batch(self._taken(self._waiting, 1))
        if self._company.is_paused:
            return self._next_in_pause()
        if len(self._running) - singles >= self._lanes() or self._patience.holds(len(self._waiting)):
            return _Batch([])
        self._end_hold()
        return _Batch(self._taken(self._waiting, choose_batch([len(job.request.body) for job in self._waiting], self._share_s)))

    def _begin_hold(self, members: int, took_s: float) -> None:
        loop = asyncio.get_running_loop()
        if hold_s := self._patience.begin(members, len(self._waiting), took_s, loop.time()):
            self._hold = loop.call_later(hold_s, self._hold_over)

    def _hold_over(self) -> None:
        self._end_hold()
        self._dispatch()

    def _end_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
            self._patience.end(len(self._waiting), asyncio.get_running_loop().time())

    def _next_in_pause(self) -> _Batch:
        if jobs := self._taken(self._waiting, 1):
            self._company.left_out()
        return _Batch(jobs, is_single=True)

    def _taken(self, queue: deque[Job], count: int) -> list[Job]:
        """The next of those that still need an evaluation."""
        taken: list[Job] = []
        at_ms = now_ms()
        while queue and len(taken) < count:
            job = queue.popleft()
            if job.is_answered:
                continue
            answer = why_not_score(job, at_ms, self._cancelled)
            if answer is not None:
                job.answer(answer)
                continue
            self._meter.started(job.request, at_ms)
            taken.append(job)
        return taken

    def _lane_done(self, task: "asyncio.Task[None]") -> None:
        jobs = self._running.pop(task).jobs
        self._alone = False
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("requests failed in the host", exc_info=error, extra={"request_id": jobs[0].request.request_id})
            for job in jobs:
                job.answer(FAILED_HERE)
        self._dispatch()
        self.freed.set()
        if self._beside is not None:
            self._beside.set()

    async def _run(self, worker: WorkerProcess, batch: _Batch) -> None:
        left, started = dict(enumerate(batch.jobs)), asyncio.get_running_loop().time()
        lanes, has_company = self._lanes(), False

        def answered(index: int, answer: Answer) -> None:
            nonlocal has_company
            job = left.pop(index)
            has_company |= answer.rows > 0
            self._meter.evaluated(job.request, answer, None if batch.is_single or not answer.rows else lanes)
            if not batch.is_single:
                self._share_s = next_share_s(self._share_s, answer.duration_s / answer.together)
            job.answer(answer)

        try:
            async with asyncio.timeout(self._limit_s):
                await worker.score([(job.request.content_type, job.request.body) for job in batch.jobs], answered)
        except TimeoutError:
            worker.replace()
            self._took_too_long(list(left.values()))
        except WorkerDied as death:
            await self._died_under(_Batch(list(left.values()), batch.is_single), death)
        else:
            self._singles.extend(left.values())
            if self.is_row_wise and not batch.is_single:
                self._company.learn(was_worth_it=has_company)
            if len(batch.jobs) > 1 and lanes == 1:
                self._begin_hold(len(batch.jobs), asyncio.get_running_loop().time() - started)

    def _took_too_long(self, jobs: list[Job]) -> None:
        """Whose fault it was shows when each runs alone."""
        log.warning("evaluation took too long, replacing the model worker", extra={"request_id": jobs[0].request.request_id})
        if len(jobs) == 1:
            timed_out = replace(TIMED_OUT, duration_s=self._limit_s)
            self._meter.evaluated(jobs[0].request, timed_out, None)
            jobs[0].answer(timed_out)
        else:
            self._suspects.extend(jobs)

    async def _died_under(self, batch: _Batch, death: WorkerDied) -> None:
        if not death.blamed:
            (self._singles if batch.is_single else self._waiting).extendleft(reversed(batch.jobs))
            return
        for job in batch.jobs:
            job.crashes = await self._attempts.count(job.request.request_id, job.crashes)
            log.warning("model worker died under a request", extra={"request_id": job.request.request_id, "attempt": job.crashes})
            if job.crashes >= MAX_CRASHES:
                job.answer(OVER_MEMORY if death.over_memory else CRASHED)
            else:
                self._suspects.append(job)

    async def _restarted(self) -> WorkerProcess | None:
        self._restarts.add(1)
        log.info("restarting the model worker")
        try:
            return await self._start_worker()
        except WorkerDied as error:
            reason = f"it died while loading the model. {said_last(error.said)}"
        except DeploymentFailed as error:
            reason = str(error)
        self.trouble = f"The model's process does not come back: {reason}"
        log.warning("model worker does not come back", extra={"reason": reason})
        return None


def pause_s(failures: int) -> float:
    """After so many in a row; none after the first."""
    return 0.0 if failures < 2 else min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 2, 16))
