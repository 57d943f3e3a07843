"""The process: load the model, say so, then answer what the host sends, with one thread for each lane."""

import gc
import json
import os
import socket
import sys
import threading
import traceback

from .frames import LENGTHS, encode_frame, slices
from .scorer import load_scorer

SWITCH_S = 0.001  # the interpreter's own 5 ms make small requests wait several times over behind a large one


def serve(descriptor: int, folder: str, lanes: int) -> None:
    _die_with_parent()
    sys.setswitchinterval(SWITCH_S)
    channel = socket.socket(fileno=descriptor)
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
    send({"event": "ready", **traits._asdict()})
    frames, reading = channel.makefile("rb"), threading.Lock()
    others = [threading.Thread(target=_lane, args=(frames, reading, scorer, send), daemon=True) for _ in range(lanes - 1)]
    for lane in others:
        lane.start()
    _lane(frames, reading, scorer, send)


def _lane(frames, reading, scorer, send) -> None:
    """Take turns at reading: a batch goes to the thread that read it, without a hand-over."""
    while True:
        with reading:
            header, body = _read_frame(frames)
        types, sizes = zip(*header["members"])
        members = list(zip(types, slices(body, sizes)))
        for answers, done in scorer.score(members):
            heads = [[a.member, a.status, a.content_type, a.client_request_id, len(a.body), a.took_s, a.together] for a in answers]
            send({"batch": header["batch"], "answers": heads, "done": done}, b"".join(a.body for a in answers))


def _read_frame(frames):
    lengths = frames.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        os._exit(0)  # the host is gone: lanes that still compute have nobody to answer
    head, body = LENGTHS.unpack(lengths)
    return json.loads(frames.read(head)), frames.read(body)


def _die_with_parent() -> None:
    """EOF cannot be seen by a process whose model holds the interpreter lock; the kernel's signal can (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
