"""One client's connection: cut when it is too slow or silent, and asked by a waiting request to say when it is gone.

uvicorn's protocol has no limit for a request's head nor for an answer that nobody reads, and ASGI tells of a hang-up only to who
awaits `receive()`: a task a request, where this is an entry in a dict.
"""

import asyncio
import socket
import sys
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterable
from fcntl import ioctl
from functools import lru_cache, partial
from termios import TIOCOUTQ
from typing import Any, cast

from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024  # request line and headers; what comes with it in one read is not counted
UNREAD_LOOK_S = 30.0
GOODBYE_S = 1.0

Headers = tuple[tuple[bytes, bytes], ...]

_CONNECTION = "penstock.connection"
_GONE = "penstock.gone"
_ON_HANG_UP = "penstock.on_hang_up"


def body_at_hand(scope: Scope, limit_bytes: int) -> bytes | None:
    """The whole body, if it came with its head and keeps the limit. None: it must be received.

    Most bodies are short; receiving one costs an event, a message, a copy, and a timer in case it does not come.
    """
    connection: Connection | None = scope.get(_CONNECTION)
    if connection is None:
        return None
    cycle = connection.cycle
    if cycle.scope is not scope or cycle.more_body or len(cycle.body) > limit_bytes:
        return None
    connection.flow.resume_reading()  # else a hang-up behind a long body is never seen
    return bytes(cycle.body)


async def respond(scope: Scope, send: Send, status: int, shared: Headers, own: Headers, body: bytes) -> None:
    """Answer with one write where that can be. `shared` are headers many answers have in common, `own` are ours and not checked.

    uvicorn checks and joins each header of each answer anew, which costs as much as parsing the request.
    """
    connection: Connection | None = scope.get(_CONNECTION)
    shared_lines = _checked_lines(shared)
    if connection is None or shared_lines is None or not connection.answer_at_once(scope, status, shared_lines + _lines(own), body):
        await send({"type": "http.response.start", "status": status, "headers": [*shared, *own]})
        await send({"type": "http.response.body", "body": body})


@lru_cache(256)
def _checked_lines(headers: Headers) -> bytes | None:
    """None: one of them must not be sent, and uvicorn will say so."""
    if any(HEADER_RE.search(name) or HEADER_VALUE_RE.search(value) for name, value in headers):
        return None
    return _lines(headers)


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def is_gone(scope: Scope) -> bool:
    """Whether the caller of this request has hung up."""
    return _GONE in scope


def watch(scope: Scope, on_hang_up: Callable[[], None]) -> None:
    """Call `on_hang_up` when the caller hangs up, at once if it has. Ends with `unwatch`."""
    if is_gone(scope):
        on_hang_up()
    else:
        scope[_ON_HANG_UP] = on_hang_up


def unwatch(scope: Scope) -> None:
    """Needed: a connection that is kept alive keeps its last scope, and with it all that the callback holds."""
    scope.pop(_ON_HANG_UP, None)


def tell_gone(scope: Scope) -> None:
    """The caller has hung up."""
    scope[_GONE] = True
    on_hang_up = scope.get(_ON_HANG_UP)
    if on_hang_up is not None:
        on_hang_up()


def ask_who_is_there(listening: socket.socket) -> socket.socket:
    """The connections it accepts inherit this: a caller's machine that vanished hangs up within a minute or so (Linux's tcp(7))."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):  # s, s, probes
        listening.setsockopt(socket.IPPROTO_TCP, option, value)
    return listening


def unread_by_peer(descriptor: int) -> int:
    """Bytes that the kernel has sent or is to send, and the peer has not taken (SIOCOUTQ, Linux's tcp(7))."""
    return int.from_bytes(ioctl(descriptor, TIOCOUTQ, bytes(4)), sys.byteorder)


class Connection(HttpToolsProtocol):
    """Timers exist only for what is slow: a head or a body that comes in one read makes none, nor does an answer the socket takes."""

    def __init__(self, head_timeout_s: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._head_timer: TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._unread_timer: TimerHandle | None = None
        self._goodbye_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()
        self._stop_unread_timer()
        if self._goodbye_timer is not None:
            self._goodbye_timer.cancel()
        if self.cycle is not None and self.cycle.disconnected:
            tell_gone(cast(Scope, self.cycle.scope))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        cast(Scope, self.scope)[_CONNECTION] = self
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.close()
        if self._head_timer is None and self._expects_head():
            self._start_head_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()

    def shutdown(self) -> None:
        """The process leaves. Under TLS whoever merely keeps the connection in a pool does not answer our goodbye, and asyncio would
        wait 30 s for that.
        """
        super().shutdown()
        if self.scheme == "https" and not self._answers:
            self._goodbye_timer = self.loop.call_later(GOODBYE_S, self._leave_unanswered)

    def _leave_unanswered(self) -> None:
        """Once the kernel has handed over all; what lies above it would long have followed."""
        if unread_by_peer(self.transport.get_extra_info("socket").fileno()):
            self._goodbye_timer = self.loop.call_later(GOODBYE_S, self._leave_unanswered)
        else:
            self.transport.abort()

    def answer_at_once(self, scope: Scope, status: int, header_lines: bytes, body: bytes) -> bool:
        """False: nothing is written, since the caller is gone, slow, behind another request, or wants the connection closed."""
        cycle = self.cycle
        if cycle.scope is not scope or cycle.response_started or cycle.disconnected or self.flow.write_paused or not cycle.keep_alive:
            return False
        default_lines = _lines(self.server_state.default_headers)
        self.transport.write(b"".join((STATUS_LINE[status], default_lines, header_lines, b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expects_head(self) -> bool:
        """In the middle of one, or after bytes that belong to no request; a connection that is merely kept alive has uvicorn's timer."""
        return self._in_head or (not self._answers and self.timeout_keep_alive_task is None)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout_s, self._cut_without_head)

    def _cut_without_head(self) -> None:
        if self._answers:
            self._start_head_timer()  # a pipelined request: perhaps it is we who do not read on
        else:
            self.transport.close()

    def _look_again(self, unread_bytes: int) -> None:
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(UNREAD_LOOK_S, partial(self._cut_unless_read, unread_bytes))

    def _cut_unless_read(self, before_bytes: int) -> None:
        """An answer of which nothing was read since the last look is nobody's."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes >= before_bytes:
            self.transport.abort()
        else:
            self._look_again(unread_bytes)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
