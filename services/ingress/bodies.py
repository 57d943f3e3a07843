"""Reads request bodies: capped while they stream in, and strictly parsed where the ingress parses at all."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.requests import Request

from services.shared.errors import BodyTooSlow, ParameterInvalid, PayloadTooLarge, RequestRejected
from services.shared.settings import MIB

MAX_MANAGEMENT_BODY = MIB
MANAGEMENT_BODY_TIMEOUT_S = 60.0
DRAIN_FACTOR = 2  # an oversized upload is read up to this many times the limit, so that the answer arrives before the cut


async def read_body(request: Request, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises PayloadTooLarge as soon as it is clear that it exceeds the limit, BodyTooSlow when it is not there
    in time, and Starlette's ClientDisconnect when its sender is gone.

    What is too long is drained, unkept, for as long as it is short enough: a connection cut in mid-upload makes the SDK
    upload again for five minutes (databricks_surface §1.6). A sender who asks whether to send it is spared that.
    """
    if _asks_to_send(request.headers, limit_bytes):
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes * DRAIN_FACTOR:
                    break
                if size > limit_bytes:
                    chunks.clear()
                else:
                    chunks.append(chunk)
    except TimeoutError as error:
        raise BodyTooSlow(f"The request body did not arrive within {timeout_s:g} seconds.") from error
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    return b"".join(chunks)


def _asks_to_send(headers: Headers, limit_bytes: int) -> bool:
    """Whether a body over the limit is announced, and held back until we say that we want it (RFC 9110 §10.1.1)."""
    return headers.get("expect", "").lower() == "100-continue" and int(headers.get("content-length", 0)) > limit_bytes


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than the limit of {limit_bytes} bytes.")


async def read_json_object(request: Request) -> dict[str, Any]:
    """A management body. Raises ParameterInvalid or RequestRejected on anything but one plain JSON object."""
    raw = await read_body(request, MAX_MANAGEMENT_BODY, MANAGEMENT_BODY_TIMEOUT_S)
    try:
        body = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        # a lone surrogate and 1e999 parse, and then cannot be written anywhere
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise RequestRejected("The request body is nested too deeply.") from error
    except ValueError as error:
        raise RequestRejected(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise ParameterInvalid("The request body must be a JSON object.")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
