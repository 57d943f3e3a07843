"""What a model worker leaves when it dies: processes in a session of their own, which no group's end reaches."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from services.scorer.worker_process import WorkerDied, WorkerProcess, start_worker
from services.scorer.worker_spec import WorkerSpec
from services.shared.settings import GIB

ROOT = Path(__file__).parents[3]
PATIENCE_S = 15
LOAD_LIMIT_S = 60
HAS_OUTPUT = "subprocess.Popen(['sleep', '600'], start_new_session=True)"  # and, closed at exec, not the channel
HAS_BOTH = "os.fork() or (os.setsid(), time.sleep(600))"
STAND_IN = """
import os, socket, subprocess, sys, time
from services.scorer.model_worker.frames import Traits, encode_frame
channel = socket.socket(fileno=int(sys.argv[3]))
{leave}
{then}
channel.sendall(encode_frame(dict(event="ready", modules=[], **Traits(False, False, "")._asdict())))
channel.recv(1)
print("last words", flush=True)
os._exit(9)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., Awaitable[WorkerProcess]]:
    """Starts a worker that leaves something behind before it is ready."""

    async def start(leave: str, then: str = "") -> WorkerProcess:
        (tmp_path / "worker.py").write_text(STAND_IN.format(leave=leave, then=then))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {tmp_path / "worker.py"} "$@"\n')
        python.chmod(0o755)
        return await start_worker(WorkerSpec(python, tmp_path, tmp_path / "scratch", {}, LOAD_LIMIT_S, 4 * GIB))

    return start


@pytest.mark.parametrize("leave", [pytest.param(HAS_OUTPUT, id="that hold its output"), pytest.param(HAS_BOTH, id="that hold its channel")])
async def test_the_end_of_a_worker_is_seen_and_takes_its_children_of_other_sessions_along(
    stand_in: Callable[..., Awaitable[WorkerProcess]], leave: str
) -> None:
    """Its host once waited for the end of the output, and had no worker until the child was gone."""
    worker = await stand_in(leave)
    async with asyncio.timeout(PATIENCE_S):
        while not worker.usage.descendants:
            await asyncio.sleep(0.02)
        (child,) = worker.usage.descendants
        assert os.getpgid(child.pid) != worker.pid
        with pytest.raises(WorkerDied):
            await worker.score([("application/json", b"{}")], lambda *_: None)
        await worker.ended()
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


async def test_what_was_never_seen_of_a_worker_holds_up_nobody(stand_in: Callable[..., Awaitable[WorkerProcess]], tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    worker = await stand_in(
        f"subprocess.run(['sh', '-c', 'setsid sleep 600 & echo $! > {pid_file}'])"  # its parent is gone at once
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            await worker.stop()
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_a_worker_that_dies_loading_is_not_waited_for_because_of_what_it_left(
    stand_in: Callable[..., Awaitable[WorkerProcess]],
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(WorkerDied):
            await stand_in(HAS_BOTH, "time.sleep(1.5); os._exit(9)")
