"""The IP access lists of the workspace, as Databricks' `ip-access-lists` and `workspace-conf` have them. For admins."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ConfigDict, Field

from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import Flag, Input, parse
from services.ingress.permissions import Guard
from services.shared.access_lists import AccessList, AccessListNotFound, WouldLockOut
from services.shared.addresses import parse_address
from services.shared.clock import now_ms
from services.shared.control_events import (
    AccessListChanged,
    AccessListCreated,
    AccessListDeleted,
    AccessListsSwitched,
    ListType,
    NetworkText,
)
from services.shared.endpoints import ControlState
from services.shared.errors import ParameterInvalid
from services.shared.event_log import EventLog

LISTS = "/api/2.0/ip-access-lists"
ONE_LIST = f"{LISTS}/{{list_id}}"
CONF = "/api/2.0/workspace-conf"
SWITCH = "enableIpAccessLists"  # the one workspace setting there is


class AccessListInput(Input):
    label: str = Field(min_length=1)
    list_type: ListType
    ip_addresses: list[NetworkText] = Field(default_factory=list)


class ReplaceAccessListInput(AccessListInput):
    enabled: Flag


class UpdateAccessListInput(Input):
    label: str | None = Field(None, min_length=1)
    list_type: ListType | None = None
    ip_addresses: list[NetworkText] | None = None
    enabled: Flag | None = None


class ConfInput(Input):
    model_config = ConfigDict(extra="forbid")

    enableIpAccessLists: Flag  # noqa: N815  a name of Databricks'


class AccessListsApi:
    """As `Management`: reads fold to the log's end, writes answer with what was folded (R9)."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def list(self) -> Response:
        access = (await self._events.refresh()).access
        return json_response({"ip_access_lists": [access_list_view(each) for each in access.lists.values()]})

    async def create(self, request: Request) -> Response:
        sent = parse(AccessListInput, await read_json_object(request))
        event = AccessListCreated(
            at_ms=now_ms(),
            author_address=author_address(request),
            label=sent.label,
            list_type=sent.list_type,
            addresses=tuple(sent.ip_addresses),
        )
        return await self._published(event, event.list_id)

    async def get(self, list_id: str) -> Response:
        return one_list(list_id, await self._events.refresh())

    async def replace(self, list_id: str, request: Request) -> Response:
        sent = parse(ReplaceAccessListInput, await read_json_object(request))
        return await self._change(list_id, request, UpdateAccessListInput.model_validate(sent.model_dump()))

    async def update(self, list_id: str, request: Request) -> Response:
        return await self._change(list_id, request, parse(UpdateAccessListInput, await read_json_object(request)))

    async def delete(self, list_id: str, request: Request) -> Response:
        await self._events.publish(AccessListDeleted(at_ms=now_ms(), author_address=author_address(request), list_id=list_id))
        return json_response({})

    async def read_conf(self, keys: str) -> Response:
        if unknown := [key for key in keys.split(",") if key != SWITCH]:
            raise ParameterInvalid(f"Workspace setting '{unknown[0]}' is not supported; there is '{SWITCH}'.")
        return json_response({SWITCH: "true" if (await self._events.refresh()).access.enforced else "false"})

    async def change_conf(self, request: Request) -> Response:
        enforced = parse(ConfInput, await read_json_object(request)).enableIpAccessLists
        await self._events.publish(AccessListsSwitched(at_ms=now_ms(), author_address=author_address(request), enforced=enforced))
        return json_response({})

    async def _change(self, list_id: str, request: Request, sent: UpdateAccessListInput) -> Response:
        event = AccessListChanged(
            at_ms=now_ms(),
            author_address=author_address(request),
            list_id=list_id,
            label=sent.label,
            list_type=sent.list_type,
            addresses=None if sent.ip_addresses is None else tuple(sent.ip_addresses),
            enabled=sent.enabled,
        )
        return await self._published(event, list_id)

    async def _published(self, event: AccessListCreated | AccessListChanged, list_id: str) -> Response:
        return one_list(list_id, await self._events.publish(event))


def one_list(list_id: str, state: ControlState) -> Response:
    """Raises AccessListNotFound, also where somebody took a list away while it was being written."""
    found = state.access.lists.get(list_id)
    if found is None:
        raise AccessListNotFound(f"IP access list with id '{list_id}' does not exist.")
    return json_response({"ip_access_list": access_list_view(found)})


def access_list_view(found: AccessList) -> dict[str, Any]:
    return {
        "list_id": found.list_id,
        "label": found.label,
        "list_type": found.list_type,
        "ip_addresses": list(found.addresses),
        "address_count": len(found.addresses),
        "enabled": found.enabled,
        "created_at": found.created_ms,
        "updated_at": found.updated_ms,
    }


def author_address(request: Request) -> str:
    """Whence the change is asked for. Raises WouldLockOut where that cannot be told: nobody could see whether it locks them out."""
    try:
        return str(parse_address(request.client.host if request.client else ""))
    except ValueError as error:
        raise WouldLockOut("Your current IP address cannot be told, so no change of the IP access lists can be made from it.") from error


def access_list_routes(lists: AccessListsApi, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False, dependencies=[Depends(guard.admin)])
    router.add_api_route(LISTS, lists.list, methods=["GET"])
    router.add_api_route(LISTS, lists.create, methods=["POST"])
    router.add_api_route(ONE_LIST, lists.get, methods=["GET"])
    router.add_api_route(ONE_LIST, lists.replace, methods=["PUT"])
    router.add_api_route(ONE_LIST, lists.update, methods=["PATCH"])
    router.add_api_route(ONE_LIST, lists.delete, methods=["DELETE"])
    router.add_api_route(CONF, lists.read_conf, methods=["GET"])
    router.add_api_route(CONF, lists.change_conf, methods=["PATCH"])
    return router
