"""How a model's process is started, and what its host holds of it, however that was done."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.scorer.model_worker.frames import LENGTHS
from services.scorer.worker_output import WorkerOutput

LEAST_PRIORITY = 19


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

    @property
    def environment_folder(self) -> Path:
        return self.python.parent.parent

    def environment(self) -> dict[str, str]:
        return {**bare_environment(self.python), **self.variables}


def bare_environment(python: Path) -> dict[str, str]:
    """What every process of an environment gets of this one's variables."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": f"{python.parent}:{os.environ.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}


class LaunchedWorker(Protocol):
    """A process of which nothing is known but that it runs: `reader` and `writer` are its channel."""

    pid: int
    output: WorkerOutput
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def kill(self) -> None:
        """End it and all of its process group. A repeat does nothing."""

    async def wait(self) -> None:
        """Returns when it is gone; a repeat returns as well."""


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    head, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    return json.loads(await reader.readexactly(head)), await reader.readexactly(body)


def yield_to_others(pid: int) -> None:
    """Before it has threads, which inherit it. Linux' idle class goes further than niceness: what wakes up beside it never waits for it.

    Where the kernel groups processes by session (`sched_autogroup_enabled`), that holds within the session: a stack is one.
    """
    os.setpriority(os.PRIO_PROCESS, pid, LEAST_PRIORITY)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
