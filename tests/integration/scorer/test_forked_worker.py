"""Real model workers forked from a real warm parent: what they are, and who takes whom along."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import psutil
import pytest

from services.scorer.answers import Answer
from services.scorer.build_log import BuildLog
from services.scorer.forked_worker import CannotFork, fork_worker
from services.scorer.fresh_worker import START
from services.scorer.imported_modules import imports_file
from services.scorer.worker_process import WorkerDied, WorkerProcess, start_worker
from services.scorer.worker_source import WorkerSource
from services.scorer.worker_spec import WorkerSpec
from services.shared.node import warm_socket
from services.shared.settings import GIB

PATIENCE_S = 30
DIGEST = "d" * 32
HOST = """
import asyncio, json, sys
from functools import partial
from pathlib import Path
from services.scorer.forked_worker import fork_worker
from services.scorer.worker_process import start_worker
from services.scorer.worker_spec import WorkerSpec

async def main(warm, model, scratch):
    spec = WorkerSpec(Path(sys.executable), model, scratch, {}, 60, 2**32)
    worker = await start_worker(spec, partial(fork_worker, warm))
    print(worker.pid, flush=True)
    await worker.score([("application/json", b'{"inputs": [[1]]}')], print)

asyncio.run(main(*map(Path, sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forking") / "m"
    mlflow.pyfunc.save_model(
        folder, python_model=str(Path(__file__).with_name("forking_model.py")), pip_requirements=["mlflow-skinny", "pandas"]
    )
    return folder


@pytest.fixture
def spec(model: Path, tmp_path: Path) -> WorkerSpec:
    python = tmp_path / "environment" / "bin" / "python"  # in a folder of its own, where what it imports is written down
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return WorkerSpec(python, model, tmp_path / "scratch", {"PENSTOCK_MICRO_BATCHING": "off"}, 60, 4 * GIB)


class Parent:
    """A warm parent of this project's own environment."""

    def __init__(self, folder: Path) -> None:
        self.socket = warm_socket(folder, DIGEST)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, imports: Path) -> None:
        readable, writable = os.pipe()
        command = [sys.executable, "-s", str(START), "warm", str(self.socket), str(imports)]
        self.process = await asyncio.create_subprocess_exec(
            *command, pass_fds=[writable], env={**os.environ, "PENSTOCK_READY_FD": str(writable)}, start_new_session=True
        )
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            assert await asyncio.to_thread(pipe.readline) == b"READY=1\n"

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Parent]:
    parent = Parent(tmp_path)
    await parent.start(tmp_path / "imports.txt")
    yield parent
    await parent.kill()


async def test_a_forked_worker_is_one_like_any_other_and_outlives_its_warm_parent(parent: Parent, spec: WorkerSpec, tmp_path: Path) -> None:
    fork = partial(fork_worker, parent.socket)
    one, other = await asyncio.gather(start_worker(spec, fork), start_worker(replace(spec, yields=True), fork))
    assert [os.sched_getscheduler(worker.pid) for worker in (one, other)] == [os.SCHED_OTHER, os.SCHED_IDLE]
    shown, beside = await show(one), await show(other)
    assert shown["luck"] != beside["luck"], "workers of one parent do not draw the same numbers"
    assert (shown["group"], shown["waits"], shown["folder"]) == (True, 7, str(spec.scratch))
    assert shown["sockets"] == 2, "its channel and its lifeline"
    assert shown["variables"].keys() <= {"HOME", "LANG", "LC_CTYPE", "TZ", "TMPDIR", "PATH", "PYTHONUNBUFFERED"} | mlflows_own(shown)
    await parent.kill()
    assert (await show(one))["group"], "the parent's death is nothing to it"
    with pytest.raises(CannotFork):
        await start_worker(spec, fork)
    await parent.start(tmp_path / "imports.txt")
    third = await start_worker(spec, fork)
    for worker in (one, other, third):
        assert not is_gone(worker.pid)
        await worker.stop()
        assert is_gone(worker.pid)


async def test_a_killed_host_takes_its_worker_along_and_what_that_started_although_the_model_never_lets_go(
    parent: Parent, spec: WorkerSpec
) -> None:
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOST, str(parent.socket), str(spec.model), str(spec.scratch)), stdout=asyncio.subprocess.PIPE
    )
    assert host.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        worker = psutil.Process(int(await host.stdout.readline()))
        while not (children := worker.children()):
            await asyncio.sleep(0.02)
    host.kill()
    await host.wait()
    async with asyncio.timeout(PATIENCE_S):
        while not all(is_gone(process.pid) for process in (worker, *children)):
            await asyncio.sleep(0.02)


async def test_a_worker_that_is_ended_in_the_middle_blames_nobody_and_one_that_dies_is_seen(parent: Parent, spec: WorkerSpec) -> None:
    for end, blamed in ((WorkerProcess.replace, False), (lambda worker: os.kill(worker.pid, signal.SIGKILL), True)):
        worker = await start_worker(spec, partial(fork_worker, parent.socket))
        scoring = asyncio.create_task(worker.score([("application/json", b'{"inputs": [[1]]}')], lambda *_: None))
        async with asyncio.timeout(PATIENCE_S):
            while not (children := psutil.Process(worker.pid).children()):
                await asyncio.sleep(0.02)
            end(worker)
            with pytest.raises(WorkerDied) as died:
                await scoring
            await worker.ended()
            while not all(is_gone(child.pid) for child in children):  # its group goes with it
                await asyncio.sleep(0.02)
        assert died.value.blamed is blamed


async def test_what_loads_afresh_and_not_in_a_fork_is_forked_no_more(parent: Parent, spec: WorkerSpec, tmp_path: Path) -> None:
    note, build_log = tmp_path / "note.txt", tmp_path / "build.log"
    told: list[str] = []

    async def tell(message: str) -> None:
        told.append(message)

    source = WorkerSource(tmp_path, DIGEST, note, BuildLog(build_log), tell)
    assert await is_forked(source, spec)
    assert not note.exists()
    assert not await is_forked(source, replace(spec, variables={"PENSTOCK_DIES_FORKED": ""}))
    assert "start afresh. A forked worker failed" in build_log.read_text()
    assert not await is_forked(source, spec), "remembered"
    assert len(told) == 1
    assert "mlflow.pyfunc" in imports_file(spec.environment_folder).read_text().split(), "told by a worker that was started afresh"


async def test_variables_of_its_own_that_make_workers_start_afresh_are_told_once(spec: WorkerSpec, tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(message: str) -> None:
        told.append(message)

    for _ in range(2):  # as two replicas, one after the other
        source = WorkerSource(tmp_path, DIGEST, tmp_path / "note.txt", BuildLog(tmp_path / "build.log"), tell)
        assert not await is_forked(source, replace(spec, variables={"OMP_NUM_THREADS": "1"}))
        await source.prepare_next()
    (message,) = told
    assert "The served entity has environment variables" in message


async def is_forked(source: WorkerSource, spec: WorkerSpec) -> bool:
    worker = await source.start(spec)
    started = psutil.Process(worker.pid).ppid()
    await worker.stop()
    return started != os.getpid()


def mlflows_own(shown: dict[str, Any]) -> set[str]:
    """What libraries set for themselves, and the spec's own."""
    return {name for name in shown["variables"] if name.startswith(("_MLFLOW", "PENSTOCK_MICRO"))}


async def show(worker: WorkerProcess) -> dict[str, Any]:
    answers: dict[int, Answer] = {}
    await worker.score([("application/json", b'{"inputs": [[0]]}')], answers.__setitem__)
    assert answers[0].status == 200, answers[0].body
    shown: dict[str, Any] = json.loads(answers[0].body)["predictions"][0]
    return shown


def is_gone(pid: int) -> bool:
    """Whoever inherits a dead process may take its time to collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
