"""One model worker process as its host sees it: frames over a socketpair, output captured and redacted."""

import asyncio
import errno
import json
import logging
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.scorer import model_worker
from services.scorer.answers import Answer
from services.scorer.build_log import DeploymentFailed
from services.scorer.model_worker.frames import LENGTHS, Traits, encode_frame, slices
from services.scorer.redaction import redact, redact_error, split_line, to_secrets
from services.scorer.worker_usage import WorkerUsage
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.settings import MIB

START = Path(model_worker.__file__).with_name("__main__.py")
LONGEST_LINE = 64 * 1024
LEAST_PRIORITY = 19

log = logging.getLogger(__name__)


class WorkerDied(Exception):
    """The process ended with the request in it. `blamed` is False when the host itself ended it, but for its memory."""

    def __init__(self, blamed: bool, over_memory: bool = False) -> None:
        reason = "took more memory than its limit" if over_memory else "died"
        super().__init__(f"the model worker {reason}" if blamed else "the model worker was replaced")
        self.blamed = blamed
        self.over_memory = over_memory


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How the model's process is started. `variables` are the entity's own, in clear: they go nowhere else (R16)."""

    python: Path
    model: Path
    scratch: Path  # the working folder: the model's own files are shared and stay as they are
    variables: Mapping[str, str]
    load_limit_s: float
    memory_limit_bytes: int
    yields: bool = False  # it gets only the processor time that nobody else wants

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
        path = f"{self.python.parent}:{os.environ.get('PATH', os.defpath)}"
        return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **self.variables}


@dataclass(slots=True)
class _Batch:
    """What the worker has been given, and who gets the answers."""

    on_answer: Callable[[int, Answer], None]
    done: "asyncio.Future[None]"


class WorkerProcess:
    """A loaded model, with the traits it found in it at load. Made by `start_worker`."""

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: "asyncio.Task[None]",
        secrets: tuple[str, ...],
        traits: Traits,
        usage: WorkerUsage,
        watching: "asyncio.Task[None]",
    ) -> None:
        self._process, self._reader, self._writer, self._output, self._secrets = process, reader, writer, output, secrets
        self._watching = watching
        self._batches: dict[int, _Batch] = {}
        self._last_number = 0
        self._blamed = True
        self.traits = traits
        self.usage = usage
        self.dead = False
        self._reading = asyncio.create_task(self._read(), name="model-worker-answers")

    @property
    def pid(self) -> int:
        return self._process.pid

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
                self._writer.write(encode_frame(header, b"".join(body for _, body in members)))
                await self._writer.drain()
            await batch.done
        finally:
            del self._batches[number]

    def replace(self) -> None:
        """End the process now; whoever is in it gets WorkerDied without blame."""
        self._blamed = False
        self.dead = True
        _kill(self.pid)

    async def ended(self) -> None:
        await asyncio.wait([self._reading])

    async def stop(self) -> None:
        """End the process; nothing should be in it any more."""
        self.replace()
        await self.ended()

    async def _read(self) -> None:
        try:
            while True:
                header, body = await _read_frame(self._reader)
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
            self._watching.cancel()
            _kill(self.pid)
            for batch in self._batches.values():
                if not batch.done.done():
                    batch.done.set_exception(WorkerDied(self._blamed, self.usage.over_memory))
            self._writer.close()
            await self._process.wait()
            await self._output

    def _give(self, batch: _Batch, answers: list[list[Any]], bodies: bytes) -> None:
        sizes = [answer[4] for answer in answers]
        for (index, status, content_type, mine, _, took_s, together), body in zip(answers, slices(bodies, sizes), strict=True):
            if status != 200 and self._secrets:
                body = redact_error(body, self._secrets)
            batch.on_answer(index, Answer(status, content_type, body, mine, took_s, together, parsed=True))


async def start_worker(spec: WorkerSpec) -> WorkerProcess:
    """Start the process and wait until its model is loaded and warm.

    Raises DeploymentFailed when the model does not load, WorkerDied when the process ends before it said so.
    """
    spec.scratch.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    try:
        process = await _spawn(spec, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    assert process.stdout is not None
    if spec.yields:
        _yield_to_others(process.pid)
    secrets = to_secrets(spec.variables.values())
    output = asyncio.create_task(_relay(process.stdout, secrets), name="model-worker-output")
    usage = WorkerUsage(process.pid, spec.memory_limit_bytes, partial(_kill, process.pid))
    watching = asyncio.create_task(usage.watch(), name="model-worker-usage")
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        async with asyncio.timeout(spec.load_limit_s):
            header, _ = await _read_frame(reader)
        if header["event"] == "failed":
            raise DeploymentFailed(f"The model cannot be loaded: {redact(header['message'], secrets)}")
    except BaseException as error:
        watching.cancel()
        writer.close()
        _kill(process.pid)
        await process.wait()
        await output
        if usage.over_memory:
            limit = f"{spec.memory_limit_bytes // MIB:,} MiB"
            raise DeploymentFailed(f"The model takes more memory than its limit of {limit} while it is loaded.") from error
        if isinstance(error, asyncio.IncompleteReadError | OSError) and not isinstance(error, TimeoutError):
            raise WorkerDied(blamed=True) from error
        if isinstance(error, TimeoutError):
            raise DeploymentFailed(f"The model did not load within {spec.load_limit_s:g} seconds.") from error
        raise
    traits = Traits(header["row_wise"], header["waits"], header["why"])
    log.info("model is loaded", extra=traits._asdict())
    return WorkerProcess(process, reader, writer, output, secrets, traits, usage, watching)


async def _spawn(spec: WorkerSpec, channel: socket.socket) -> Process:
    """Raises DeploymentFailed for variables that are longer than the system hands to a process: 128 KiB each on Linux."""
    command = [str(spec.python), "-s", str(START), str(channel.fileno()), str(spec.model), str(LANES_PER_REPLICA)]
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=spec.scratch,
            env=spec.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[channel.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is the host's business
        )
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        raise DeploymentFailed("The environment variables, with the secrets in them, are longer than the system allows.") from error


def _yield_to_others(pid: int) -> None:
    """Before it has threads, which inherit it. Linux' idle class goes further than niceness: what wakes up beside it never waits for it."""
    os.setpriority(os.PRIO_PROCESS, pid, LEAST_PRIORITY)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _kill(pid: int) -> None:
    """The whole group: the model's code may have children, and they hold its output open."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def _read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    head, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    return json.loads(await reader.readexactly(head)), await reader.readexactly(body)


async def _relay(stream: asyncio.StreamReader, secrets: tuple[str, ...]) -> None:
    """The model's own output, line by line, into the service log."""
    rest = b""
    while chunk := await stream.read(LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        told, rest = split_line(rest, LONGEST_LINE, secrets)
        for line in [*lines, told] if told else lines:
            log.info("model output", extra={"line": redact(line.decode(errors="replace"), secrets)})
    if rest:
        log.info("model output", extra={"line": redact(rest.decode(errors="replace"), secrets)})
