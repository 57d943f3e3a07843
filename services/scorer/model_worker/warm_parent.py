"""A process that has imported what its environment's models need, and forks a model worker for whoever connects.

It holds no model and no secret: a worker gets those over its own channel (`forked.py`). Over a connection comes one byte with two
descriptors, the worker's end of the channel and that of its output; the connection itself becomes the worker's lifeline.
"""

import array
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Iterable, List

from .forked import become_worker

LEFT = 0  # exit status: what was imported runs threads, which a fork would lose, and would do so again
BACKLOG = 64
ORDER_LIMIT_S = 1.0  # whoever connects and says nothing keeps the others waiting no longer
DESCRIPTORS = 2
ALWAYS = ("mlflow.pyfunc", f"{__package__}.scorer", f"{__package__}.proof")


def stand_by(path: str, names_file: str) -> None:
    """Import, listen at `path`, fork until SIGTERM."""
    began = time.monotonic()
    import_all([*ALWAYS, *_read_names(names_file)])
    _list_packages()
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        print(f"cannot be forked: importing has started threads: {', '.join(others)}", flush=True)
        os._exit(LEFT)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page it walks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are their hosts' business
    listening = _listen(path)
    print(f"{len(sys.modules)} modules are imported after {time.monotonic() - began:.1f} s", flush=True)
    _tell_ready()
    while True:
        connection, _ = listening.accept()
        with connection:
            _fork(listening, connection)


def import_all(names: Iterable[str]) -> None:
    """What fails is left to the workers: it may have been there only as part of something else."""
    for name in names:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001  any module may fail in any way
                print(f"not imported: {name}: {type(error).__name__}: {error}", flush=True)


def _list_packages() -> None:
    """MLflow finds out which module is of which package when a model is first loaded, and keeps it: 0.3 s of each load otherwise."""
    try:
        from mlflow.utils import requirements_utils

        for name in ("_init_modules_to_packages_map", "_init_packages_to_modules_map"):
            getattr(requirements_utils, name, lambda: None)()
    except Exception as error:  # noqa: BLE001  private to MLflow, and different in each: a load does it by itself, too
        print(f"packages not listed: {type(error).__name__}: {error}", flush=True)


def _fork(listening: socket.socket, connection: socket.socket) -> None:
    try:
        descriptors = _receive(connection)
    except OSError as error:
        print(f"no worker forked: {error}", flush=True)
        return
    try:
        if len(descriptors) == DESCRIPTORS and os.fork() == 0:
            # What the imports may have opened is theirs and stays open; of this process there is nothing else.
            listening.close()
            become_worker(connection, *descriptors)
    except OSError as error:
        print(f"no worker forked: {error}", flush=True)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(connection: socket.socket) -> List[int]:
    """As `socket.recv_fds`, which came with Python 3.9."""
    connection.settimeout(ORDER_LIMIT_S)
    descriptors = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(DESCRIPTORS * descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def _listen(path: str) -> socket.socket:
    """Only the owner can connect. Whatever lies there was left by a parent that is gone."""
    if os.path.exists(path):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(path)
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    return listening


def _read_names(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def _tell_ready() -> None:
    """To whoever started this process, as `shared/readiness.py` does."""
    descriptor = os.environ.pop("PENSTOCK_READY_FD", None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "wb") as pipe:
            pipe.write(b"READY=1\n")
