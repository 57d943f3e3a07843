"""The one place that knows HTTP statuses: every error leaves as `{"error_code", "message", "details"}` (databricks_surface §1.6)."""

import json
import logging
from math import ceil
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.shared.errors import BodyTooSlow, PayloadTooLarge, ServingError, TryAgainLater

STATUS_BY_CODE = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "DIRECTORY_NOT_EMPTY": 400,
    "RESOURCE_LIMIT_EXCEEDED": 400,
    "INVALID_STATE": 400,
    "QUOTA_EXCEEDED": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "RESOURCE_ALREADY_EXISTS": 409,
    "RESOURCE_CONFLICT": 409,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

HUNG_UP = 499  # nginx's number for it

log = logging.getLogger(__name__)


def json_response(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """ASCII JSON, so that a lone surrogate in a name cannot break the reply; NaN is refused, since it is not JSON."""
    return Response(json.dumps(body, allow_nan=False), status, headers, media_type="application/json")


def error_response(code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return json_response({"error_code": code, "message": message, "details": []}, STATUS_BY_CODE[code], headers)


async def on_serving_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    headers = {}
    if isinstance(error, TryAgainLater):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    if isinstance(error, PayloadTooLarge | BodyTooSlow):
        headers["Connection"] = "close"  # the rest of the body may still be under way
    return error_response(error.code, error.message, headers)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Routing faults: unknown path, known path with another method."""
    assert isinstance(error, HTTPException)
    code = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BAD_REQUEST")
    return error_response(code, f"No API found for '{request.method} {request.url.path}'.", dict(error.headers or {}))


async def on_invalid_parameter(_: Request, error: Exception) -> Response:
    """FastAPI's own word on a path or query parameter, which would leave as `{"detail": …}`: to the SDK a SCIM error."""
    assert isinstance(error, RequestValidationError)
    faults = (f"'{fault['loc'][-1]}': {fault['msg']}" for fault in error.errors())
    return error_response("INVALID_PARAMETER_VALUE", "Invalid request: " + "; ".join(faults))


async def on_hang_up(request: Request, _: Exception) -> Response:
    """Nobody reads this; the row of what was accepted says 499, or what came of it."""
    log.debug("caller hung up", extra={"method": request.method, "path": request.url.path})
    return Response(status_code=HUNG_UP)


async def on_fault(request: Request, error: Exception) -> Response:
    """A bug of ours: the trace goes to the log, the caller learns no detail."""
    log.error("request failed by a fault of ours", exc_info=error, extra={"method": request.method, "path": request.url.path})
    return error_response("INTERNAL_ERROR", "An internal fault stopped this request; the service log holds the details.")


async def response_to(request: Request, error: Exception) -> Response:
    """What Starlette's middleware answers an error with, for a route that goes without Starlette."""
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    response: Response = await handler(request, error)
    return response


HANDLERS: dict[Any, Any] = {
    ServingError: on_serving_error,
    HTTPException: on_http_exception,
    RequestValidationError: on_invalid_parameter,
    ClientDisconnect: on_hang_up,
    Exception: on_fault,
}
