"""What a model worker and its children take of the machine; over its memory limit it is killed (R13)."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

LOOK_EVERY_S = 0.5  # a look costs 1 ms of CPU, more where many processes run: off the event loop; the rest is the kernel's, by OOM_SCORE
OOM_SCORE = "1000"  # where memory runs out first, the kernel takes the model worker before anything else

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory_bytes` is resident memory, what is shared between processes counted in each; `cpu_s` since the process began."""

    memory_bytes: int
    cpu_s: float
    descendants: frozenset[psutil.Process] = frozenset()


class WorkerUsage:
    """`memory_share` of the limit and `cpu_share` of the machine's cores, as last seen; `over_memory` once the limit was passed.

    `descendants` are those that were ever seen to be that and still run, whoever is their parent by now.
    """

    def __init__(self, pid: int, memory_limit_bytes: int, kill: Callable[[], None]) -> None:
        self._pid = pid
        self._limit_bytes = memory_limit_bytes
        self._kill = kill
        self.memory_share = self.cpu_share = 0.0
        self.over_memory = False
        self.descendants: frozenset[psutil.Process] = frozenset()
        with suppress(OSError):  # a hint, where the system has it
            Path(f"/proc/{pid}/oom_score_adj").write_text(OOM_SCORE)

    async def watch(self) -> None:
        """Look now and then until the process is gone or was killed for its memory."""
        cores, cpu_s, at = psutil.cpu_count() or 1, 0.0, time.monotonic()
        while (usage := await asyncio.to_thread(read_usage, self._pid, self.descendants)) is not None:
            now = time.monotonic()
            self.cpu_share = max(0.0, usage.cpu_s - cpu_s) / max(now - at, LOOK_EVERY_S) / cores
            self.memory_share = usage.memory_bytes / self._limit_bytes
            cpu_s, at = usage.cpu_s, now
            self.descendants = usage.descendants
            if usage.memory_bytes > self._limit_bytes:
                self.over_memory = True
                facts = {"memory_bytes": usage.memory_bytes, "limit_bytes": self._limit_bytes}
                log.error("model worker is over its memory limit, killing it", extra=facts)
                self._kill()
                return
            await asyncio.sleep(LOOK_EVERY_S)

    def kill_descendants(self) -> None:
        """Once it is gone: those that have a session of their own are in no group that was killed."""
        for process in self.descendants:
            with suppress(psutil.Error):  # gone by itself; psutil knows a number that is another process' by now
                process.kill()


def read_usage(pid: int, known: frozenset[psutil.Process] = frozenset()) -> Usage | None:
    """Of a process and all its descendants; `known` are from earlier looks. None: it is gone."""
    try:
        process = psutil.Process(pid)
        total, children = _usage_of(process), process.children(recursive=True)
    except psutil.Error:
        return None
    for child in children:
        with suppress(psutil.Error):  # gone since it was listed
            usage = _usage_of(child)
            total = Usage(total.memory_bytes + usage.memory_bytes, total.cpu_s + usage.cpu_s)
    return replace(total, descendants=frozenset(one for one in known.union(children) if one.is_running()))


def _usage_of(process: psutil.Process) -> Usage:
    with process.oneshot():
        times = process.cpu_times()
        return Usage(process.memory_info().rss, times.user + times.system)
