"""A model worker that is started as any program is, and imports all it needs by itself."""

import asyncio
import errno
import os
import signal
import socket
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

from services.scorer import model_worker
from services.scorer.build_log import DeploymentFailed
from services.scorer.worker_output import WorkerOutput, open_output
from services.scorer.worker_spec import WorkerSpec, yield_to_others
from services.shared.control_events import LANES_PER_REPLICA

START = Path(model_worker.__file__).with_name("__main__.py")


class FreshWorker:
    """A child of this process. The kernel ends it when its host dies."""

    def __init__(self, process: Process, output: WorkerOutput, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid, self.output, self.reader, self.writer = process.pid, output, reader, writer
        self._process = process

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> None:
        await self._process.wait()


async def spawn_worker(spec: WorkerSpec) -> FreshWorker:
    """Raises DeploymentFailed for variables that are longer than the system hands to a process: 128 KiB each on Linux."""
    output, writable = await open_output(spec.variables)
    ours, theirs = socket.socketpair()
    try:
        process = await _spawn(spec, theirs, writable)
    except BaseException:
        ours.close()
        output.close()
        raise
    finally:
        theirs.close()
        os.close(writable)
    if spec.yields:
        yield_to_others(process.pid)
    return FreshWorker(process, output, *await asyncio.open_unix_connection(sock=ours))


async def _spawn(spec: WorkerSpec, channel: socket.socket, output: int) -> Process:
    command = [str(spec.python), "-s", str(START), str(channel.fileno()), str(spec.model), str(LANES_PER_REPLICA)]
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=spec.scratch,
            env=spec.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[channel.fileno()],
            preexec_fn=os.setpgrp,  # one system call; uvloop has no `process_group`
        )
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        raise DeploymentFailed("The environment variables, with the secrets in them, are longer than the system allows.") from error
