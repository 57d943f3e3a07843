"""What host and model worker say to one another: the codec of both, and what each needs to know of a body.

A frame is two unsigned 32-bit lengths (network order), a JSON header and a body. A batch is `{"batch": number, "members":
[[content type, bytes], …]}` with the members' bodies one after the other; its answers come in one frame or in several, as
`{"batch": number, "answers": [[index, status, content type, client's id, bytes, seconds, scored together, rows], …],
"done": false}`, true in the last. One member gets an answer for certain, of several those that can be scored together: the host sends
the others alone.
Before the first, the worker says `{"event": "ready"}` with the model's traits and the modules it has loaded, or `{"event": "failed"}`
with a message. One that was forked says `{"event": "forked", "pid": number}` before that, and is told `model`, `scratch`, `variables`
and `lanes`.
"""

import json
import os
import struct
from typing import Iterable, Iterator, NamedTuple, Optional

LENGTHS = struct.Struct("!II")
JSON_TYPE = "application/json"


class Traits(NamedTuple):
    """Whether requests are scored together, and why (not); and whether such an evaluation waits rather than computes.

    `first_s` is what one row took in the proof, `more_s` what each more in the same evaluation did; None: requests have no company.
    """

    row_wise: bool
    waits: bool
    why: str
    first_s: Optional[float] = None
    more_s: Optional[float] = None


def encode_frame(header: dict, body: bytes = b"") -> bytes:
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def read_frame(frames):
    """The next one's header and body, from a socket's file; the process ends with the frames."""
    lengths = frames.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        os._exit(0)  # the host is gone: lanes that still compute have nobody to answer
    head, body = LENGTHS.unpack(lengths)
    return json.loads(frames.read(head)), frames.read(body)


def slices(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """The members of a frame's body, one by one."""
    start = 0
    for size in sizes:
        yield body[start : start + size]
        start += size


def client_request_id_of(body: bytes):
    """The caller's own id: a top-level string of a JSON object, else None."""
    if b"client_request_id" not in body:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return client_request_id_in(found)


def client_request_id_in(found):
    value = found.get("client_request_id") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None
