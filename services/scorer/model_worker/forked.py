"""What a fork of the warm parent does to be a model worker like any other: a process group, an output and a host of its own."""

import fcntl
import os
import select
import signal
import socket
import sys
import traceback

from .frames import encode_frame, read_frame
from .serving import serve


def become_worker(lifeline: socket.socket, channel_number: int, output: int) -> None:
    """Never returns. `lifeline` ends with the host, and nothing is ever written to it."""
    status = 1
    try:
        os.setpgid(0, 0)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the model may wait for children of its own
        _die_with_host(lifeline)
        _reseed()
        channel = socket.socket(fileno=channel_number)
        channel.sendall(encode_frame({"event": "forked", "pid": os.getpid()}))
        frames = channel.makefile("rb")
        told, _ = read_frame(frames)
        os.environ.clear()
        os.environ.update(told["variables"])
        os.chdir(told["scratch"])
        serve(channel, frames, told["model"], told["lanes"])
        status = 0
    except BaseException:  # noqa: BLE001  a fork must never go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _die_with_host(lifeline: socket.socket) -> None:
    """The kernel kills the whole group when the other end closes, also while the model holds the interpreter's lock.

    The signal at a parent's death, as a fresh worker has it, would here mean the warm parent, on which no worker depends.
    """
    lifeline.setblocking(False)
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())  # the group this process leads
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):
        os._exit(0)  # it had closed before


def _reseed() -> None:
    """Workers of one parent would all draw the same numbers; the standard library's `random` sees to that itself."""
    for name in ("numpy.random", "torch"):
        if name in sys.modules:
            sys.modules[name].seed()
