"""Tokens by the routes of the SDK's `w.tokens`, each caller's own, and of `w.token_management`, everybody's, for admins."""

from collections.abc import Iterable
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, Field, WithJsonSchema

from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import MAX_LIFETIME_S, Input, Lifetime, parse
from services.ingress.permissions import Guard
from services.shared.clock import now_ms
from services.shared.control_events import PrincipalKind, TokenCreated, TokenRevoked
from services.shared.endpoints import ControlState, Token
from services.shared.errors import RequestRejected
from services.shared.event_log import EventLog
from services.shared.tokens import new_token, token_digest

TOKENS = "/api/2.0/token"
MANAGED = "/api/2.0/token-management/tokens"
ONE_MANAGED = f"{MANAGED}/{{token_id}}"
ON_BEHALF = "/api/2.0/token-management/on-behalf-of/tokens"
MAX_TOKENS = 600  # of one principal that have not expired (Databricks' own); two calls at the same time may pass it by one
NEVER = -1  # how the API says that a token does not expire


class TokenNotFound(RequestRejected):
    """No token has that id, or none that the caller may end."""

    code = "RESOURCE_DOES_NOT_EXIST"


class TooManyTokens(RequestRejected):
    """The principal has as many tokens as one may."""

    code = "QUOTA_EXCEEDED"


def _nothing(value: list[Any] | bool) -> list[Any] | bool:
    """A token that may do more than was asked for would be worse than none."""
    if value:
        raise ValueError("tokens that are limited to scopes are not supported; a token may do what its owner may")
    return value


Scopes = Annotated[list[Any], AfterValidator(_nothing), WithJsonSchema({"type": "array", "maxItems": 0})]
Autoscope = Annotated[bool, Field(strict=True), AfterValidator(_nothing), WithJsonSchema({"const": False})]


class CreateTokenInput(Input):
    comment: str = ""
    lifetime_seconds: Lifetime = MAX_LIFETIME_S  # also where none is named
    scopes: Scopes = Field(default_factory=list)
    autoscope_enabled: Autoscope = False


class OnBehalfInput(CreateTokenInput):
    """`application_id` is the name of the service principal."""

    application_id: str = Field(min_length=1)


class DeleteTokenInput(Input):
    token_id: str


class TokensApi:
    """As `Management`: reads fold to the log's end, writes answer with what was folded (R9)."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def create(self, request: Request, caller: Token) -> Response:
        sent = parse(CreateTokenInput, await read_json_object(request))
        value, token = await self._make(sent, caller.principal, caller.kind)
        return json_response({"token_value": value, "token_info": token_view(token)})

    async def list(self, caller: Token) -> Response:
        state = await self._events.refresh()
        return json_response({"token_infos": [token_view(token) for token in tokens_of(caller.principal, caller.kind, state)]})

    async def delete(self, request: Request, caller: Token) -> Response:
        token_id = parse(DeleteTokenInput, await read_json_object(request)).token_id
        state = await self._events.refresh()
        return await self._revoke(token_id, tokens_of(caller.principal, caller.kind, state))

    async def create_on_behalf(self, request: Request) -> Response:
        sent = parse(OnBehalfInput, await read_json_object(request))
        value, token = await self._make(sent, sent.application_id, PrincipalKind.SERVICE_PRINCIPAL)
        return json_response({"token_value": value, "token_info": managed_view(token)})

    async def list_all(self, created_by_username: str | None = None) -> Response:
        tokens = (await self._events.refresh()).tokens.values()
        shown = [managed_view(token) for token in tokens if created_by_username in (None, token.principal)]
        return json_response({"token_infos": shown})

    async def get(self, token_id: str) -> Response:
        tokens = (await self._events.refresh()).tokens.values()
        return json_response({"token_info": managed_view(_found(token_id, tokens))})

    async def delete_any(self, token_id: str) -> Response:
        return await self._revoke(token_id, (await self._events.refresh()).tokens.values())

    async def _make(self, sent: CreateTokenInput, principal: str, kind: PrincipalKind) -> tuple[str, Token]:
        at_ms = now_ms()
        tokens = tokens_of(principal, kind, await self._events.refresh())
        alive = [token for token in tokens if not token.is_expired(at_ms)]
        if len(alive) >= MAX_TOKENS:
            raise TooManyTokens(f"'{principal}' has {len(alive)} tokens; one may have at most {MAX_TOKENS}.")
        value = new_token()
        event = TokenCreated(
            at_ms=at_ms,
            token_id=uuid4().hex,
            sha256=token_digest(value),
            principal=principal,
            kind=kind,
            expires_ms=at_ms + sent.lifetime_seconds * 1000,
            comment=sent.comment,
        )
        return value, _found(event.token_id, (await self._events.publish(event)).tokens.values())

    async def _revoke(self, token_id: str, among: Iterable[Token]) -> Response:
        await self._events.publish(TokenRevoked(at_ms=now_ms(), token_id=_found(token_id, among).token_id))
        return json_response({})


def tokens_of(principal: str, kind: PrincipalKind, state: ControlState) -> list[Token]:
    return [token for token in state.tokens.values() if (token.principal, token.kind) == (principal, kind)]


def token_view(token: Token) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "comment": token.comment,
        "creation_time": token.created_ms,
        "expiry_time": NEVER if token.expires_ms is None else token.expires_ms,
    }


def managed_view(token: Token) -> dict[str, Any]:
    """With whose it is. Who made it for them is not kept."""
    return token_view(token) | {"created_by_username": token.principal}


def _found(token_id: str, among: Iterable[Token]) -> Token:
    found = next((token for token in among if token.token_id == token_id), None)
    if found is None:
        raise TokenNotFound("No token with that id exists.")
    return found


def token_routes(tokens: TokensApi, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    caller, admin = Depends(guard.caller), [Depends(guard.admin)]

    async def create(request: Request, token: Any = caller) -> Response:
        return await tokens.create(request, token)

    async def listed(token: Any = caller) -> Response:
        return await tokens.list(token)

    async def delete(request: Request, token: Any = caller) -> Response:
        return await tokens.delete(request, token)

    router.add_api_route(f"{TOKENS}/create", create, methods=["POST"])
    router.add_api_route(f"{TOKENS}/list", listed, methods=["GET"])
    router.add_api_route(f"{TOKENS}/delete", delete, methods=["POST"])
    router.add_api_route(ON_BEHALF, tokens.create_on_behalf, methods=["POST"], dependencies=admin)
    router.add_api_route(MANAGED, tokens.list_all, methods=["GET"], dependencies=admin)
    router.add_api_route(ONE_MANAGED, tokens.get, methods=["GET"], dependencies=admin)
    router.add_api_route(ONE_MANAGED, tokens.delete_any, methods=["DELETE"], dependencies=admin)
    return router
