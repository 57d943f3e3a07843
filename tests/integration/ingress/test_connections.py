"""Clients that are slow, silent or gone, on raw sockets: no broker is needed for it."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from services.ingress import connections
from services.ingress.bodies import read_body
from services.ingress.connections import MAX_HEAD_BYTES, Connection, ask_who_is_there, body_at_hand, respond, unwatch, watch
from services.ingress.http_errors import HANDLERS
from services.ingress.listening import require_safe
from services.ingress.settings import IngressSettings
from tests.certificates import write_certificate

TIMEOUT_S = 0.4
PATIENCE_S = 10.0
LARGE = 32 * 1024 * 1024  # more than the kernel buffers for a reader who does not read
HEAD = b"POST /%s HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"


@dataclass
class Served:
    """`/echo` answers with the body, `/quick` as invocations do, `/wait` when told to, `/large` with much."""

    port: int = 0
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    disconnects: list[str] = field(default_factory=list)
    state: ServerState = field(default_factory=ServerState)

    async def echo(self, request: Request) -> Response:
        try:
            return Response(await read_body(request, 100, TIMEOUT_S))
        except ClientDisconnect:
            self.disconnects.append(request.url.path)
            self.hung_up.set()
            raise

    async def wait(self, request: Request) -> Response:
        await read_body(request, 100, TIMEOUT_S)
        watch(request.scope, self.hung_up.set)
        self.waits.set()
        await self.finish.wait()
        unwatch(request.scope)
        return Response(b"waited")

    async def quick(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = body_at_hand(scope, 100)
        if body is None:
            body = b"received: " + await read_body(Request(scope, receive), 100, TIMEOUT_S)
        shared = ((b"content-type", unquote_to_bytes(scope["query_string"]) or b"text/csv"),)
        await respond(scope, send, 200, shared, ((b"content-length", b"%d" % len(body)),), body)

    async def large(self, _: Request) -> Response:
        return Response(b"x" * LARGE)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    served = Served()
    routes = [Route(f"/{name}", getattr(served, name), methods=["POST"]) for name in ("echo", "wait", "large")]
    app = Starlette(routes=[*routes, Mount("/quick", served.quick)], exception_handlers=HANDLERS)
    config, state = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none"), served.state
    listening = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(TIMEOUT_S, config=config, server_state=state, app_state={}), sock=listening, ssl=tls
    )
    served.port = listening.getsockname()[1]
    async with asyncio.timeout(PATIENCE_S):
        yield served
        server.close()
        served.finish.set()
        while state.tasks:
            await asyncio.sleep(0.01)
        for connection in list(state.connections):
            connection.shutdown()
        await server.wait_closed()


async def connect(served: Served, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(sent)
    return reader, writer


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="says nothing"),
        pytest.param(b"\r\n\r\n", id="says nothing but line ends"),
        pytest.param(b"POST /ec", id="stops in the request line"),
        pytest.param(b"POST /echo HTTP/1.1\r\nhost: h\r\nx-a: b\r\n", id="never ends its headers"),
        pytest.param(HEAD % (b"echo", 2) + b"okPOST /echo HTTP/1.1\r\n", id="never ends its second request's headers"),
    ],
)
async def test_a_client_who_sends_no_whole_head_is_cut(served: Served, sent: bytes) -> None:
    began_at = time.monotonic()
    reader, writer = await connect(served, sent)
    answer = await reader.read()
    assert TIMEOUT_S * 0.9 < time.monotonic() - began_at < PATIENCE_S / 2
    assert answer.endswith(b"ok" if b"ok" in sent else b"")
    writer.close()


async def test_a_head_that_trickles_in_is_cut_at_the_same_time(served: Served) -> None:
    reader, writer = await connect(served, b"POST /echo HTTP/1.1\r\n")
    began_at, ended = time.monotonic(), asyncio.create_task(reader.read(), name="ended")
    while not ended.done():
        writer.write(b"a: b\r\n")
        await asyncio.wait([ended], timeout=TIMEOUT_S / 8)
    assert time.monotonic() - began_at < TIMEOUT_S * 3
    writer.close()


async def test_headers_without_end_are_cut_before_they_fill_the_memory(served: Served) -> None:
    reader, writer = await connect(served, b"POST /echo HTTP/1.1\r\n")
    began_at = time.monotonic()
    line = b"a: " + b"b" * 1000 + b"\r\n"
    for _ in range(2 * MAX_HEAD_BYTES // len(line)):
        writer.write(line)
    with suppress(ConnectionError):  # a reset is as good as an end
        await asyncio.gather(reader.read(), writer.drain())
    assert time.monotonic() - began_at < TIMEOUT_S
    writer.close()


async def test_a_connection_that_is_kept_is_not_cut_for_its_silence(served: Served) -> None:
    reader, writer = await connect(served, HEAD % (b"echo", 3) + b"one")
    assert (await reader.readuntil(b"one")).endswith(b"one")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(TIMEOUT_S * 2):
            await reader.read()
    writer.write(HEAD % (b"echo", 3) + b"two")
    assert (await reader.readuntil(b"two")).endswith(b"two")
    writer.close()


async def test_a_request_that_waits_is_not_cut_for_the_half_head_behind_it(served: Served) -> None:
    reader, writer = await connect(served, HEAD % (b"wait", 0) + b"POST /ec")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(TIMEOUT_S * 2):
            await reader.read()
    served.finish.set()
    assert (await reader.readuntil(b"waited")).endswith(b"waited")
    writer.close()


async def test_a_body_that_does_not_arrive_is_told_so_and_cut(served: Served) -> None:
    reader, writer = await connect(served, HEAD % (b"echo", 3) + b"on")
    head, body = (await reader.read()).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body) == {
        "error_code": "BAD_REQUEST",
        "message": f"The request body did not arrive within {TIMEOUT_S:g} seconds.",
        "details": [],
    }
    writer.close()


@pytest.mark.parametrize(
    ("sent", "bodies"),
    [
        pytest.param([HEAD % (b"quick/", 3) + b"one"], [b"one"], id="a body that comes with its head"),
        pytest.param([HEAD % (b"quick/", 3), b"one"], [b"received: one"], id="one that comes later"),
        pytest.param([HEAD % (b"quick/", 3) + b"one", HEAD % (b"quick/", 3) + b"two"], [b"one", b"two"], id="two, one after the other"),
        pytest.param([HEAD % (b"quick/", 3) + b"one" + HEAD % (b"quick/", 3) + b"two"], [b"received: one", b"two"], id="two at once"),
        pytest.param(
            [(HEAD % (b"quick/", 3)).replace(b"host", b"connection: close\r\nhost") + b"one"], [b"one"], id="a connection to be closed"
        ),
    ],
)
async def test_an_invocation_is_answered_once_and_whole(served: Served, sent: list[bytes], bodies: list[bytes]) -> None:
    reader, writer = await connect(served)
    answers, behind = list[bytes](), list(bodies)
    for part in sent:
        writer.write(part)
        await asyncio.sleep(0.05)  # so that it comes in a read of its own
    writer.write_eof()
    while behind:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\ncontent-type: text/csv\r\n" in head
        assert head.count(b"content-length: %d\r\n" % len(behind[0])) == 1
        assert (b"connection: close" in head) == (b"connection: close" in sent[0])
        answers.append(await reader.readexactly(len(behind.pop(0))))
    assert answers == bodies
    assert await reader.read() == b""
    writer.close()


async def test_an_answer_whose_header_would_break_out_of_its_line_is_not_sent(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await connect(served, HEAD % (b"quick/?a%0d%0ab:%20c", 3) + b"one")
    assert await reader.read() == b""
    assert any("Invalid HTTP header value" in str(record.exc_info) for record in caplog.records)
    writer.close()


async def test_a_client_who_goes_in_mid_upload_is_no_error(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await connect(served, HEAD % (b"echo", 3) + b"on")
    await writer.drain()
    writer.close()
    await served.hung_up.wait()
    assert served.disconnects == ["/echo"]
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelno >= 30]


@pytest.mark.parametrize("reset", [pytest.param(False, id="politely"), pytest.param(True, id="with a reset")])
async def test_who_waits_hears_of_a_hang_up(served: Served, reset: bool) -> None:
    _, writer = await connect(served, HEAD % (b"wait", 0))
    await served.waits.wait()
    assert not served.hung_up.is_set()
    if reset:
        writer.transport.abort()
    else:
        writer.close()
    await served.hung_up.wait()


def test_who_is_accepted_is_asked_whether_it_is_still_there() -> None:
    with ask_who_is_there(socket.create_server(("127.0.0.1", 0))) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_an_answer_that_nobody_reads_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_LOOK_S", 0.2)
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(silent, HEAD % (b"large", 0))
        await asyncio.sleep(0.8)  # there is nothing to wait for: who does not read sees nothing
        got = 0
        try:
            while chunk := await loop.sock_recv(silent, 1 << 20):
                got += len(chunk)
        except ConnectionError:
            pass
        assert 0 < got < LARGE


async def test_an_answer_that_is_read_slowly_is_not_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_LOOK_S", 1.0)
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(slow, HEAD % (b"large", 0))
        got = 0
        while got < LARGE:
            chunk = await loop.sock_recv(slow, 1 << 20)
            assert chunk, got
            got += len(chunk)
            await asyncio.sleep(0.02)


async def test_under_tls_an_invocation_is_answered_and_a_hang_up_is_told(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    client = ssl.create_default_context(cafile=certificate)
    async with serving(require_safe(IngressSettings(tls_certificate=certificate, tls_key=key))) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=client, server_hostname="localhost")
        for body in (b"one", b"two"):
            writer.write(HEAD % (b"quick/", 3) + body)
            assert (await reader.readuntil(body)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(HEAD % (b"wait", 0))
        await served.waits.wait()
        writer.close()
        await served.hung_up.wait()


async def test_who_speaks_without_tls_to_tls_is_told_nothing(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    async with serving(require_safe(IngressSettings(tls_certificate=certificate, tls_key=key))) as served:
        reader, writer = await connect(served, HEAD % (b"quick/", 3) + b"one")
        with suppress(ConnectionError):
            assert b"HTTP" not in await reader.read()
        writer.close()


@pytest.mark.parametrize("large", [pytest.param(False, id="nothing is left to read"), pytest.param(True, id="much is left to read")])
async def test_under_tls_a_kept_connection_does_not_hold_up_who_leaves(large: bool, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    client = ssl.create_default_context(cafile=certificate)
    async with serving(require_safe(IngressSettings(tls_certificate=certificate, tls_key=key))) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as plain:
            plain.settimeout(PATIENCE_S)
            kept = await asyncio.to_thread(client.wrap_socket, plain, server_hostname="localhost", suppress_ragged_eofs=True)
            await asyncio.to_thread(kept.sendall, HEAD % ((b"large" if large else b"quick/"), 0))
            answered = await asyncio.to_thread(kept.recv, 1024)
            assert answered.startswith(b"HTTP/1.1 200 OK")
            (connection,) = served.state.connections
            began_at = time.monotonic()
            connection.shutdown()
            got = len(answered)
            while chunk := await asyncio.to_thread(kept.recv, 1 << 20):
                got += len(chunk)
            kept.close()
            while served.state.connections:
                await asyncio.sleep(0.01)
            assert time.monotonic() - began_at < PATIENCE_S / 2
            assert got > LARGE if large else True
