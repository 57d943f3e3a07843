"""A model worker that a warm parent forks (`model_worker/warm_parent.py`): it has imported all it needs before it begins.

It is no child of this process, so that its end is seen by a descriptor of it; and nothing but the lifeline ends it with its host.
"""

import asyncio
import os
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from services.scorer.model_worker.frames import encode_frame
from services.scorer.worker_output import WorkerOutput, open_output
from services.scorer.worker_spec import WorkerSpec, read_frame, yield_to_others
from services.shared.control_events import LANES_PER_REPLICA

FORK_LIMIT_S = 5.0  # a fork takes some 20 ms; a parent that takes longer is not well
ORDER = b"F"


class CannotFork(Exception):
    """There is no warm parent, or none that is well. That says nothing against the model."""


class ForkedWorker:
    """`lifeline` is held by this process alone: when it closes, the kernel kills the worker's whole group."""

    def __init__(
        self, pid: int, output: WorkerOutput, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lifeline: socket.socket
    ) -> None:
        """`pid` is alive, waiting to be told its model, and not yet told."""
        self.pid, self.output, self.reader, self.writer = pid, output, reader, writer
        self._lifeline = lifeline
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def kill(self) -> None:
        self._lifeline.close()  # before the next line: once the worker is gone, so is its end, which names the group
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)  # a model may have closed its end

    async def wait(self) -> None:
        await self._ended.wait()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()
        self._lifeline.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # children that it left; while there are any, the number is no other group's


async def fork_worker(path: Path, spec: WorkerSpec) -> ForkedWorker:
    """Have one forked by the warm parent at `path`, and tell it its model. Raises CannotFork."""
    try:
        with ExitStack() as opened:
            async with asyncio.timeout(FORK_LIMIT_S):
                return await _fork_worker(path, spec, opened)
    except (OSError, TimeoutError, EOFError, ValueError, KeyError) as error:
        raise CannotFork(repr(error)) from error


async def _fork_worker(path: Path, spec: WorkerSpec, opened: ExitStack) -> ForkedWorker:
    lifeline = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    lifeline.setblocking(False)
    lifeline.connect(str(path))  # at once, or not at all: a full queue is an error
    output, writable = await open_output(spec.variables)
    opened.callback(output.close)
    try:
        ours = _order(lifeline, writable)
    finally:
        os.close(writable)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    opened.callback(writer.close)
    said, _ = await read_frame(reader)
    worker = ForkedWorker(said["pid"], output, reader, writer, lifeline)
    if spec.yields:
        yield_to_others(worker.pid)
    told = {"model": str(spec.model), "scratch": str(spec.scratch), "variables": spec.environment(), "lanes": LANES_PER_REPLICA}
    writer.write(encode_frame(told))
    opened.pop_all()
    return worker


def _order(lifeline: socket.socket, output: int) -> socket.socket:
    """Hand over the worker's ends of its channel and its output; returns our end of the channel."""
    ours, theirs = socket.socketpair()
    try:
        socket.send_fds(lifeline, [ORDER], [theirs.fileno(), output])
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours
