"""The process: load the model, say so, then answer what the host sends, with one thread for each lane."""

import gc
import socket
import sys
import threading
import traceback

from .frames import encode_frame, read_frame, slices
from .loaded_modules import loaded_modules
from .scorer import load_scorer

SWITCH_S = 0.001  # the interpreter's own 5 ms make small requests wait several times over behind a large one


def start_fresh(descriptor: int, folder: str, lanes: int) -> None:
    _die_with_parent()
    channel = socket.socket(fileno=descriptor)
    serve(channel, channel.makefile("rb"), folder, lanes)


def serve(channel: socket.socket, frames, folder: str, lanes: int) -> None:
    """`frames` is the channel's file. Returns when the model cannot be loaded."""
    sys.setswitchinterval(SWITCH_S)
    sending = threading.Lock()

    def send(header, body=b"") -> None:
        with sending:
            channel.sendall(encode_frame(header, body))

    try:
        scorer, traits = load_scorer(folder)
    except BaseException as error:  # noqa: BLE001  whatever stops the load is told to the host
        traceback.print_exc()
        send({"event": "failed", "message": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # MLflow and the model are 200,000 objects: walking them stops every lane for a tenth of a second
    send({"event": "ready", "modules": loaded_modules(), **traits._asdict()})
    reading = threading.Lock()
    others = [threading.Thread(target=_lane, args=(frames, reading, scorer, send), daemon=True) for _ in range(lanes - 1)]
    for lane in others:
        lane.start()
    _lane(frames, reading, scorer, send)


def _lane(frames, reading, scorer, send) -> None:
    """Take turns at reading: a batch goes to the thread that read it, without a hand-over."""
    while True:
        with reading:
            header, body = read_frame(frames)
        types, sizes = zip(*header["members"])
        members = list(zip(types, slices(body, sizes)))
        for answers, done in scorer.score(members):
            heads = [[a.member, a.status, a.content_type, a.client_request_id, len(a.body), a.took_s, a.together, a.rows] for a in answers]
            send({"batch": header["batch"], "answers": heads, "done": done}, b"".join(a.body for a in answers))


def _die_with_parent() -> None:
    """EOF cannot be seen by a process whose model holds the interpreter lock; the kernel's signal can (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
