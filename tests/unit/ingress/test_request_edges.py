"""The edges of a request: who calls, what the body is, how an error leaves."""

import asyncio
import base64
import json
from hashlib import sha256

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from services.ingress.bodies import read_body, read_json_object
from services.ingress.http_errors import HANDLERS, STATUS_BY_CODE, on_fault, on_http_exception, on_serving_error
from services.ingress.identity import Callers, identify
from services.shared.control_events import TokenCreated
from services.shared.endpoints import Token
from services.shared.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    EndpointNotFound,
    ParameterInvalid,
    PayloadTooLarge,
    QueueFull,
    RequestRejected,
    ServingError,
    Unauthenticated,
)
from tests.unit.ingress.hostile_json import HOSTILE
from tests.unit.shared.control_log import fold

SECRET = "dapi0123456789abcdef"
STATE = fold(TokenCreated(token_id="t1", sha256=sha256(SECRET.encode()).hexdigest(), principal="ada", at_ms=1))


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(f"Bearer {SECRET}", id="bearer"),
        pytest.param(f"bearer  {SECRET} ", id="bearer in small letters with spaces"),
        pytest.param(basic(f"token:{SECRET}".encode()), id="basic with the token as password"),
    ],
)
def test_a_live_token_is_its_principal(authorization: str) -> None:
    assert identify(authorization, STATE) == Token("t1", "ada", created_ms=1)


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="nothing"),
        pytest.param("", id="an empty header"),
        pytest.param("Bearer", id="a scheme alone"),
        pytest.param("Bearer other", id="another token"),
        pytest.param(SECRET, id="a token without scheme"),
        pytest.param(f"Digest {SECRET}", id="another scheme"),
        pytest.param("Basic !!!", id="basic that is no base64"),
        pytest.param("Basic \xe9\xe9\xe9\xe9", id="basic that is no ASCII"),
        pytest.param(basic(b"\xff\xfe:x"), id="basic that is no UTF-8"),
        pytest.param(basic(SECRET.encode()), id="basic without a colon"),
    ],
)
def test_anything_else_is_unauthenticated_and_not_repeated(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        identify(authorization, STATE)
    assert SECRET not in refused.value.message


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_is_a_fault(authorization: str) -> None:
    with pytest.raises(Unauthenticated):
        identify(authorization, STATE)


def test_a_caller_who_is_known_is_forgotten_with_the_token() -> None:
    callers, header = Callers(), f"Bearer {SECRET}"
    assert callers.identify(header, STATE) == callers.identify(header, STATE) == Token("t1", "ada", created_ms=1)
    for absent in (None, "", "Bearer other"):
        with pytest.raises(Unauthenticated):
            callers.identify(absent, STATE)
    with pytest.raises(Unauthenticated):
        callers.identify(header, fold())


def request(*chunks: bytes) -> Request:
    messages = [{"type": "http.request", "body": chunk, "more_body": n < len(chunks) - 1} for n, chunk in enumerate(chunks)]
    left: list[Message] = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    return Request({"type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b""}, receive)


async def test_a_body_comes_in_pieces() -> None:
    assert await read_body(request(b"ab", b"", b"cd"), 4, 60) == b"abcd"


@pytest.mark.parametrize("chunks", [[b"abcde"], [b"abc", b"de"], [b"a" * 100, b"a"]], ids=["at once", "in pieces", "cut when far too long"])
async def test_a_body_over_the_limit_is_refused(chunks: list[bytes]) -> None:
    with pytest.raises(PayloadTooLarge, match="larger than the limit of 4 bytes"):
        await read_body(request(*chunks), 4, 60)


async def test_a_body_over_the_limit_that_is_only_offered_is_not_asked_for() -> None:
    async def receive() -> Message:
        raise AssertionError("to receive is to say 100 Continue")

    headers = [(b"expect", b"100-Continue"), (b"content-length", b"5")]
    with pytest.raises(PayloadTooLarge, match="larger than the limit of 4 bytes"):
        await read_body(Request({"type": "http", "method": "POST", "path": "/x", "headers": headers}, receive), 4, 60)


async def test_a_body_that_does_not_end_in_time_is_refused() -> None:
    async def receive() -> Message:
        if left:
            return left.pop()
        await asyncio.Event().wait()
        raise AssertionError

    left: list[Message] = [{"type": "http.request", "body": b"ab", "more_body": True}]
    with pytest.raises(BodyTooSlow, match=r"within 0\.01 seconds"):
        await read_body(Request({"type": "http", "method": "POST", "path": "/x", "headers": []}, receive), 4, 0.01)


async def test_a_sender_who_goes_in_mid_body_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Message:
        return left.pop()

    left: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"ab", "more_body": True}]
    seen = Request({"type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b""}, receive)
    with pytest.raises(ClientDisconnect) as gone:
        await read_body(seen, 4, 60)
    assert (await HANDLERS[type(gone.value)](seen, gone.value)).status_code == 499
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_json_object_is_read() -> None:
    assert await read_json_object(request(b'{"a": [1, "\xc3\xa9"]}')) == {"a": [1, "é"]}


@pytest.mark.parametrize(("raw", "refusal"), HOSTILE)
async def test_a_body_that_is_no_plain_json_object_is_refused(raw: bytes, refusal: type[RequestRejected]) -> None:
    with pytest.raises(RequestRejected) as refused:
        await read_json_object(request(raw))
    assert type(refused.value) is refusal
    assert STATUS_BY_CODE[refused.value.code] == 400


def _tree(kind: type[ServingError]) -> list[type[ServingError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]


@pytest.mark.parametrize("kind", _tree(ServingError), ids=lambda kind: kind.__name__)
def test_every_error_there_is_has_a_status(kind: type[ServingError]) -> None:
    assert kind.code in STATUS_BY_CODE


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        pytest.param(EndpointNotFound("x"), 404, {}, id="not found"),
        pytest.param(QueueFull("busy", 1.2), 429, {"retry-after": "2"}, id="retry after whole seconds, never too early"),
        pytest.param(QueueFull("busy", 0.0), 429, {"retry-after": "1"}, id="and never at once"),
        pytest.param(PayloadTooLarge("large"), 400, {"connection": "close"}, id="an oversized upload ends its connection"),
        pytest.param(BodyTooSlow("slow"), 400, {"connection": "close"}, id="so does one that takes too long"),
        pytest.param(DeadlineExceeded("late"), 504, {}, id="late"),
        pytest.param(ParameterInvalid("\ud800"), 400, {}, id="a lone surrogate in a message"),
    ],
)
async def test_an_error_leaves_in_the_envelope(error: ServingError, status: int, headers: dict[str, str]) -> None:
    response = await on_serving_error(request(), error)
    assert json.loads(bytes(response.body)) == {"error_code": error.code, "message": error.message, "details": []}
    assert response.status_code == status
    assert headers.items() <= dict(response.headers).items()


@pytest.mark.parametrize(("status", "code"), [(404, "ENDPOINT_NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"), (400, "BAD_REQUEST")])
async def test_routing_faults_leave_in_the_envelope(status: int, code: str) -> None:
    seen = Request({"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"h")], "query_string": b"", "scheme": "http"})
    response = await on_http_exception(seen, HTTPException(status))
    assert (response.status_code, json.loads(bytes(response.body))["error_code"]) == (status, code)


async def test_a_parameter_fastapi_refuses_leaves_in_the_envelope() -> None:
    error = RequestValidationError([{"type": "missing", "loc": ("query", "limit"), "msg": "Field required", "input": None}])
    response = await HANDLERS[RequestValidationError](request(), error)
    assert (response.status_code, json.loads(response.body)) == (
        400,
        {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid request: 'limit': Field required", "details": []},
    )


async def test_a_fault_of_ours_tells_the_caller_nothing() -> None:
    seen = Request({"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"h")], "query_string": b"", "scheme": "http"})
    response = await on_fault(seen, RuntimeError(SECRET))
    assert response.status_code == 500
    assert SECRET not in bytes(response.body).decode()
