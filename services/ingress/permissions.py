"""The permissions of an endpoint, by its id (databricks_surface §1.5), and the guard of all management routes."""

from collections import Counter
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.identity import identify
from services.ingress.payloads import Input, parse
from services.ingress.rate_limiter import RateLimiter
from services.shared.clock import now_ms
from services.shared.control_events import Grant, PermissionsChanged, PrincipalKind
from services.shared.endpoints import ControlState, Endpoint, Token
from services.shared.errors import EndpointNotFound, ParameterInvalid, PermissionDenied, TryAgainLater
from services.shared.event_log import EventLog
from services.shared.rights import DESCRIPTIONS, Level, is_admin, level_of, require

PERMISSIONS = "/api/2.0/permissions/serving-endpoints/{endpoint_id}"
READS = ("GET", "HEAD")


class EntryInput(Input):
    user_name: str | None = Field(None, min_length=1)
    group_name: str | None = Field(None, min_length=1)
    service_principal_name: str | None = Field(None, min_length=1)
    permission_level: Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


class PermissionsInput(Input):
    access_control_list: list[EntryInput] = Field(default_factory=list)


class Guard:
    """Asked before every route: who calls, and for those about serving whether they may. Reading an endpoint takes CAN_VIEW,
    all else CAN_MANAGE; what is not reading counts against the workspace's limit of changes, whatever becomes of it.
    """

    def __init__(self, events: EventLog, limiter: RateLimiter) -> None:
        self._events = events
        self._limiter = limiter

    async def identified(self, request: Request) -> Token:
        """Raises Unauthenticated, or TryAgainLater without a view of the tokens confirmed seconds ago (R9)."""
        if not self._events.is_confirmed():
            raise TryAgainLater("This ingress cannot confirm the state of its tokens at the moment.")
        return identify(request.headers.get("authorization"), self._events.snapshot())

    async def caller(self, request: Request) -> Token:
        """One who may: raises also EndpointNotFound, PermissionDenied and RateLimited."""
        caller = await self.identified(request)
        if "name" in request.path_params:
            await self._require(level_needed(request.method), caller, request)
        if request.method not in READS:
            self._limiter.spend_change()
        return caller

    async def querier(self, request: Request) -> Token:
        """One who may query the endpoint of the route; what is not reading counts as a query. Raises as `caller`."""
        caller = await self.identified(request)
        await self._require(Level.CAN_QUERY, caller, request)
        if request.method not in READS:
            self._limiter.spend_query()
        return caller

    async def admin(self, request: Request) -> Token:
        """As `caller`, of the workspace itself. Raises also PermissionDenied, to everybody but admins."""
        caller = await self.caller(request)
        if not is_admin(caller, await self._events.refresh()):
            raise PermissionDenied(f"User '{caller.principal}' is no admin of this workspace; this needs one.")
        return caller

    async def _require(self, needed: Level, caller: Token, request: Request) -> None:
        state = await self._events.refresh()
        endpoint = state.endpoint(request.path_params["name"])
        require(needed, caller, endpoint, state)
        request.state.endpoint_id = endpoint.endpoint_id


def guarded(request: Request, state: ControlState) -> Endpoint:
    """The endpoint of a route that the guard has let the caller to. Raises EndpointNotFound once it is gone, whoever has its name now."""
    endpoint = state.endpoint_by_id(request.state.endpoint_id)
    if endpoint is None:
        raise EndpointNotFound(request.path_params["name"])
    return endpoint


def level_needed(method: str) -> Level:
    return Level.CAN_VIEW if method in READS else Level.CAN_MANAGE


class Permissions:
    """As `Management`: reads fold to the log's end, writes answer with what was folded (R9)."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def read(self, endpoint_id: str, caller: Token) -> Response:
        return json_response(access_control(await self._endpoint(endpoint_id, caller, Level.CAN_VIEW)))

    async def change(self, endpoint_id: str, request: Request, caller: Token, *, replaces: bool) -> Response:
        endpoint = await self._endpoint(endpoint_id, caller, Level.CAN_MANAGE)
        grants = parse_grants(await read_json_object(request))
        event = PermissionsChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, grants=grants, replaces=replaces)
        state = await self._events.publish(event)
        return json_response(access_control(state.endpoint(endpoint.name)))

    async def levels(self, endpoint_id: str, caller: Token) -> Response:
        await self._endpoint(endpoint_id, caller, Level.CAN_VIEW)
        known = [{"permission_level": level.name, "description": text} for level, text in DESCRIPTIONS.items()]
        return json_response({"permission_levels": known})

    async def _endpoint(self, endpoint_id: str, caller: Token, needed: Level) -> Endpoint:
        """One that the caller may not see is told as one that is absent: by the id they asked for, never by its name."""
        state = await self._events.refresh()
        endpoint = state.endpoint_by_id(endpoint_id)
        if endpoint is None or level_of(caller, endpoint, state) is None:
            raise EndpointNotFound(endpoint_id)
        require(needed, caller, endpoint, state)
        return endpoint


def parse_grants(body: dict[str, Any]) -> tuple[Grant, ...]:
    """Raises ParameterInvalid: for an entry that names nobody or several, and for a principal with two entries."""
    grants = tuple(_to_grant(entry) for entry in parse(PermissionsInput, body).access_control_list)
    for (_, name), count in Counter((grant.kind, grant.name) for grant in grants).items():
        if count > 1:
            raise ParameterInvalid(f"The access control list names '{name}' more than once.")
    return grants


def _to_grant(entry: EntryInput) -> Grant:
    named = {kind: name for kind in PrincipalKind if (name := getattr(entry, kind.value)) is not None}
    if len(named) != 1:
        raise ParameterInvalid("Each entry names one of 'user_name', 'group_name' and 'service_principal_name'.")
    ((kind, name),) = named.items()
    return Grant(kind=kind, name=name, level=entry.permission_level)


def access_control(endpoint: Endpoint) -> dict[str, Any]:
    """The direct entries, as they were set: Terraform takes anything else for a drift."""
    entries = [
        {
            grant.kind.value: grant.name,
            "display_name": grant.name,
            "all_permissions": [{"permission_level": grant.level, "inherited": False}],
        }
        for grant in endpoint.grants
    ]
    return {
        "object_id": f"/serving-endpoints/{endpoint.endpoint_id}",
        "object_type": "serving-endpoint",
        "access_control_list": entries,
    }


def permission_routes(permissions: Permissions, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    caller = Depends(guard.caller)

    async def read(endpoint_id: str, token: Any = caller) -> Response:
        return await permissions.read(endpoint_id, token)

    async def put(endpoint_id: str, request: Request, token: Any = caller) -> Response:
        return await permissions.change(endpoint_id, request, token, replaces=True)

    async def patch(endpoint_id: str, request: Request, token: Any = caller) -> Response:
        return await permissions.change(endpoint_id, request, token, replaces=False)

    async def levels(endpoint_id: str, token: Any = caller) -> Response:
        return await permissions.levels(endpoint_id, token)

    router.add_api_route(PERMISSIONS, read, methods=["GET"])
    router.add_api_route(PERMISSIONS, put, methods=["PUT"])
    router.add_api_route(PERMISSIONS, patch, methods=["PATCH"])
    router.add_api_route(f"{PERMISSIONS}/permissionLevels", levels, methods=["GET"])
    return router
