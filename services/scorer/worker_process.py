"""One model worker process as its host sees it: frames over a socketpair, output captured and redacted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.scorer.answers import Answer
from services.scorer.build_log import DeploymentFailed
from services.scorer.fresh_worker import spawn_worker
from services.scorer.model_worker.frames import Traits, encode_frame, slices
from services.scorer.redaction import redact, redact_error, to_secrets
from services.scorer.worker_output import REST_S
from services.scorer.worker_spec import LaunchedWorker, WorkerSpec, read_frame
from services.scorer.worker_usage import WorkerUsage
from services.shared.settings import MIB

log = logging.getLogger(__name__)


class WorkerDied(Exception):
    """The process ended with the request in it, or before its model was loaded: then `said` is the end of its output, "" for none.

    `blamed` is False when the host itself ended it, but for its memory.
    """

    def __init__(self, blamed: bool, over_memory: bool = False, said: str = "") -> None:
        reason = "took more memory than its limit" if over_memory else "died"
        super().__init__(f"the model worker {reason}" if blamed else "the model worker was replaced")
        self.blamed = blamed
        self.over_memory = over_memory
        self.said = said


@dataclass(slots=True)
class _Batch:
    """What the worker has been given, and who gets the answers."""

    on_answer: Callable[[int, Answer], None]
    done: "asyncio.Future[None]"


class WorkerProcess:
    """A loaded model, with the traits it found in it at load. Made by `start_worker`."""

    def __init__(
        self,
        launched: LaunchedWorker,
        secrets: tuple[str, ...],
        traits: Traits,
        modules: Sequence[str],
        usage: WorkerUsage,
        watching: "asyncio.Task[None]",
    ) -> None:
        """`modules` are those it has loaded that are not the model's own."""
        self._launched, self._secrets = launched, secrets
        self._watching = watching
        self._batches: dict[int, _Batch] = {}
        self._last_number = 0
        self._blamed = True
        self.traits = traits
        self.modules = modules
        self.usage = usage
        self.dead = False
        self.died_idle = False  # by itself, with no request in it
        self._reading = asyncio.create_task(self._read(), name="model-worker-answers")

    @property
    def pid(self) -> int:
        return self._launched.pid

    async def score(self, members: Sequence[tuple[str, bytes]], on_answer: Callable[[int, Answer], None]) -> None:
        """Hand over (content type, body) of each member as one batch; `on_answer` gets each answer with its member's index.

        Returns when the worker is done with the batch: of several members, those that cannot be scored together get no answer.
        Raises WorkerDied. Cancelled: answers that still come are dropped.
        """
        if self.dead:
            raise WorkerDied(blamed=False)
        self._last_number += 1
        number = self._last_number
        batch = self._batches[number] = _Batch(on_answer, asyncio.get_running_loop().create_future())
        header = {"batch": number, "members": [(content_type, len(body)) for content_type, body in members]}
        try:
            with suppress(OSError):  # a broken pipe is seen, with everything else, as the end of the answers
                self._launched.writer.write(encode_frame(header, b"".join(body for _, body in members)))
                await self._launched.writer.drain()
            await batch.done
        finally:
            del self._batches[number]

    def replace(self) -> None:
        """End the process now; whoever is in it gets WorkerDied without blame."""
        self._blamed = False
        self.dead = True
        self._launched.kill()

    async def ended(self) -> None:
        await asyncio.wait([self._reading])

    async def stop(self) -> None:
        """End the process; nothing should be in it any more."""
        self.replace()
        await self.ended()

    async def _read(self) -> None:
        try:
            while True:
                header, body = await read_frame(self._launched.reader)
                batch = self._batches.get(header["batch"])
                if batch is not None:
                    self._give(batch, header["answers"], body)
                    if header["done"] and not batch.done.done():
                        batch.done.set_result(None)
        except (asyncio.IncompleteReadError, OSError):
            log.info("model worker ended", extra={"pid": self.pid})
        except (ValueError, KeyError):
            log.exception("model worker speaks nonsense")
        finally:
            self.dead = True
            self.died_idle = self._blamed and not self._batches
            self._launched.kill()
            for batch in self._batches.values():
                if not batch.done.done():
                    batch.done.set_exception(WorkerDied(self._blamed, self.usage.over_memory))
            await _end(self._launched, self.usage, self._watching)

    def _give(self, batch: _Batch, answers: list[list[Any]], bodies: bytes) -> None:
        sizes = [answer[4] for answer in answers]
        for (index, status, content_type, mine, _, took_s, together, rows), body in zip(answers, slices(bodies, sizes), strict=True):
            if status != 200 and self._secrets:
                body = redact_error(body, self._secrets)
            batch.on_answer(index, Answer(status, content_type, body, mine, took_s, together, rows, parsed=True))


async def start_worker(spec: WorkerSpec, launch: Callable[[WorkerSpec], Awaitable[LaunchedWorker]] = spawn_worker) -> WorkerProcess:
    """Start the process by `launch`, whose errors are passed on, and wait until its model is loaded and warm.

    Raises DeploymentFailed when the model does not load, WorkerDied when the process ends before it said so.
    """
    spec.scratch.mkdir(parents=True, exist_ok=True)
    launched = await launch(spec)
    secrets = to_secrets(spec.variables.values())
    usage = WorkerUsage(launched.pid, spec.memory_limit_bytes, launched.kill)
    watching = asyncio.create_task(_watch(launched, usage), name="model-worker-watch")
    try:
        async with asyncio.timeout(spec.load_limit_s):
            header, _ = await read_frame(launched.reader)
        if header["event"] == "failed":
            raise DeploymentFailed(f"The model cannot be loaded: {redact(header['message'], secrets)}")
    except BaseException as error:
        await _end(launched, usage, watching)
        if usage.over_memory:
            limit = f"{spec.memory_limit_bytes // MIB:,} MiB"
            raise DeploymentFailed(f"The model takes more memory than its limit of {limit} while it is loaded.") from error
        if isinstance(error, asyncio.IncompleteReadError | OSError) and not isinstance(error, TimeoutError):
            raise WorkerDied(blamed=True, said=launched.output.last_lines) from error
        if isinstance(error, TimeoutError):
            said = said_last(launched.output.last_lines)
            raise DeploymentFailed(f"The model did not load within {spec.load_limit_s:g} seconds. {said}") from error
        raise
    traits = Traits(**{name: header[name] for name in Traits._fields})
    log.info("model is loaded", extra={"pid": launched.pid, **traits._asdict()})
    return WorkerProcess(launched, secrets, traits, header["modules"], usage, watching)


def said_last(lines: str) -> str:
    """A sentence about a load that failed. What is said later may be about requests, whose contents are for nobody else's eyes."""
    return f"Its process said last: {lines}" if lines else "Please see service logs for more information."


async def _watch(launched: LaunchedWorker, usage: WorkerUsage) -> None:
    """Hold it to its limit. Once it is gone nothing passes for it: what its model forked has its end of the channel, too."""
    await usage.watch()
    await launched.wait()
    launched.kill()
    usage.kill_descendants()
    await asyncio.sleep(REST_S)
    launched.writer.close()


async def _end(launched: LaunchedWorker, usage: WorkerUsage, watching: "asyncio.Task[None]") -> None:
    """Of a worker that has ended, or is to end now, nothing is left: not its group, and not what it started in another one."""
    watching.cancel()
    launched.writer.close()
    launched.kill()
    await launched.wait()
    usage.kill_descendants()
    await launched.output.end()
