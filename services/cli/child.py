"""One process of the stack: start, readiness, restart with backoff, graceful stop."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.cli.failures import StackFailure
from services.cli.keeper_link import KeeperLink
from services.cli.log_files import last_lines, rotate
from services.cli.plan import STEADY_AFTER_S, ChildState, failures_in_a_row, restart_pause_s
from services.cli.probes import Probe, wait_until
from services.cli.spare_replica import SpareReplicas
from services.shared.clock import now_ms
from services.shared.readiness import READY_VARIABLE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a process is run. Without a `probe` it tells its readiness itself, through the pipe of `readiness.py`."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log_file: Path
    grace_s: float
    probe: Probe | None = None
    prepare: Callable[[], object] = field(default=lambda: None)  # runs once, in a thread, before the first start
    descriptors: Mapping[str, int] = field(default_factory=dict)  # handed over; each by the variable that tells its number
    health: socket.socket | None = None  # where it answers `health.py`'s questions; kept over restarts
    may_leave: bool = False  # exit status 0 unasked means that it is done
    must_start: bool = True  # a death before it was ever ready fails the start of the stack


class Child:
    """Runs from `start` to `stop`, or until it leaves by itself where it may; `finished` is called then."""

    def __init__(
        self,
        spec: ChildSpec,
        keeper: KeeperLink,
        changed: Callable[["Child"], None],
        finished: Callable[["Child"], None],
        spares: SpareReplicas | None = None,
    ) -> None:
        """One of `spares` stands in for a start where it can."""
        self.spec = spec
        self.state = ChildState.WAITING
        self.pid: int | None = None
        self.started_ms: int | None = None  # None while there is no process
        self.restarts = 0
        self._deaths = 0
        self._last_words = ""
        self._ready_at = float("inf")
        self._keeper = keeper
        self._changed = changed
        self._finished = finished
        self._spares = spares
        self._health = None if spec.health is None else "http://{}:{}".format(*spec.health.getsockname())
        self._began_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._was_ready = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.spec.name)

    async def start_ready(self) -> None:
        """Start, and return when it was ready once. Raises StackFailure when it died before."""
        self.start()
        await asyncio.shield(self._was_ready)

    @property
    def deaths(self) -> int:
        """In a row; 0 once it has recovered."""
        return 0 if self._ready_s() >= STEADY_AFTER_S else self._deaths

    @property
    def last_words(self) -> str:
        """The end of its log at its last death, "" once it has recovered."""
        return self._last_words if self.deaths else ""

    @property
    def was_asked_to_stop(self) -> bool:
        return self._stopping.is_set()

    def ask_to_stop(self) -> None:
        self._stopping.set()
        if self.state in (ChildState.STARTING, ChildState.READY):
            self._become(ChildState.STOPPING)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the grace. Returns when nothing of its group is left; a repeat waits as well."""
        self.ask_to_stop()
        if self._task:
            await asyncio.wait({self._task})
        else:
            self._become(ChildState.STOPPED)

    def status(self) -> dict[str, Any]:
        alive = self.pid is not None
        return {
            "name": self.spec.name,
            "state": str(self.state),
            "pid": self.pid,
            "restarts": self.restarts,
            "uptime_s": round(time.monotonic() - self._began_at, 1) if alive else None,
            "log": str(self.spec.log_file),
            "health": self._health,
        }

    async def _run(self) -> None:
        try:
            await asyncio.to_thread(self._prepare)
            while not self._stopping.is_set():
                code, ready_s = await self._run_once()
                if self._stopping.is_set() or (code == 0 and self.spec.may_leave):
                    break
                if self.spec.must_start and not self._was_ready.done():
                    raise StackFailure(f"{self.spec.name} ended at its start ({_how(code)}); {last_lines(self.spec.log_file)}")
                self._deaths, self._last_words = failures_in_a_row(self._deaths, ready_s), last_lines(self.spec.log_file)
                await self._back_off(code)
        except Exception as error:  # the edge of the loop: who waits for it, and the log, get the reason
            failure = error if isinstance(error, StackFailure) else StackFailure(f"{self.spec.name} cannot be run: {error}")
            log.error("process given up", exc_info=error, extra={"child": self.spec.name})
            if not self._was_ready.done():
                self._was_ready.set_exception(failure)
                self._was_ready.exception()  # looked at: it is also logged, and a replica has nobody who waits for it
        finally:
            if self.spec.health:
                self.spec.health.close()
            self._become(ChildState.STOPPED)
            self._finished(self)

    def _prepare(self) -> None:
        self.spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.spec.log_file)
        self.spec.prepare()

    async def _run_once(self) -> tuple[int, float]:
        """Start it and wait for its end; returns the exit status, and for how many seconds it was ready."""
        readable, writable = os.pipe()
        started_ms = now_ms()  # before it can say anything about itself
        try:
            process = await self._spawn(writable)
        except OSError:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        self._keeper.add(process.pid)
        self.pid, self.started_ms, self._began_at = process.pid, started_ms, time.monotonic()
        exited = asyncio.create_task(process.wait(), name=f"{self.spec.name}-exit")
        asked = asyncio.create_task(self._stopping.wait(), name=f"{self.spec.name}-stop")
        ready = asyncio.create_task(self._watch_readiness(readable), name=f"{self.spec.name}-ready")
        try:
            self._become(ChildState.STARTING)
            await asyncio.wait({exited, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                await self._end(process.pid, exited)
            return await exited, self._ready_s()
        finally:
            for task in (asked, ready):
                task.cancel()
            await asyncio.gather(asked, ready, return_exceptions=True)
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # what a dead leader left in its group
            self._keeper.forget(process.pid)
            self.pid, self.started_ms, self._ready_at = None, None, float("inf")

    async def _spawn(self, writable: int) -> asyncio.subprocess.Process:
        descriptors = {READY_VARIABLE: writable, **self.spec.descriptors}
        with self.spec.log_file.open("ab") as output:
            spares = self._spares if self._deaths < 2 else None  # who dies again and again leaves them to others
            if spares and (process := spares.take(self.spec.environment, output.fileno(), descriptors)):
                return process
            return await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.spec.environment, **{name: str(number) for name, number in descriptors.items()}},
                pass_fds=tuple(descriptors.values()),
                process_group=0,  # no session of its own: Linux' autogroups make niceness count within one session alone
            )

    async def _watch_readiness(self, readable: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(readable, "rb", 0))
        try:
            if self.spec.probe:
                await wait_until(self.spec.probe)
            elif await reader.readline() != b"READY=1\n":
                return
            self._ready_at = time.monotonic()
            if self.state is ChildState.STARTING:
                self._become(ChildState.READY)
            if not self._was_ready.done():
                self._was_ready.set_result(None)
        finally:
            transport.close()

    async def _end(self, group: int, exited: asyncio.Task[int]) -> None:
        """Only the leader gets SIGTERM: it knows in which order what it started has to go."""
        self._become(ChildState.STOPPING)
        with suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
        await asyncio.wait({exited}, timeout=self.spec.grace_s)
        if not exited.done():
            log.error("process killed: it did not leave in its grace", extra={"child": self.spec.name, "grace_s": self.spec.grace_s})
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)

    def _ready_s(self) -> float:
        """For how long it has been ready; less than nothing where it is not."""
        return time.monotonic() - self._ready_at

    async def _back_off(self, code: int) -> None:
        pause_s = restart_pause_s(self._deaths)
        log.warning("process ended, starting it again", extra={"child": self.spec.name, "exit": _how(code), "pause_s": pause_s})
        self._become(ChildState.BACKING_OFF)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        self.restarts += 1

    def _become(self, state: ChildState) -> None:
        if state is not self.state:
            self.state = state
            self._changed(self)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
