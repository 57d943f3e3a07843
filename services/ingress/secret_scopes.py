"""Secret scopes, their secrets and their access control lists, by the routes of the SDK's `w.secrets`."""

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import Input, parse
from services.ingress.permissions import Guard
from services.ingress.secret_rights import Permission, permission_on, require_scope
from services.shared.clock import now_ms
from services.shared.control_events import (
    SecretAclDeleted,
    SecretAclPut,
    SecretDeleted,
    SecretEvent,
    SecretPut,
    SecretScopeCreated,
    SecretScopeDeleted,
)
from services.shared.endpoints import Token
from services.shared.errors import LimitExceeded, ParameterInvalid, RequestRejected
from services.shared.event_log import EventLog
from services.shared.secret_box import SecretBox
from services.shared.secret_scopes import SecretScope

SECRETS = "/api/2.0/secrets"
MAX_SCOPES = 1_000  # these three are Databricks' own; two calls at the same time may pass the first two by one
MAX_SECRETS = 1_000  # of a scope
MAX_SECRET_BYTES = 128 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,128}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("may hold letters, digits, '-', '_', '.' and '@', at most 128 of them")
    return value


SCOPE_SCHEMA = {"type": "string", "pattern": f"^{_NAME.pattern}$"}
Name = Annotated[str, AfterValidator(_name), WithJsonSchema(SCOPE_SCHEMA)]
Principal = Annotated[str, Field(min_length=1, max_length=256)]


class ScopeInput(Input):
    scope: Name


class CreateScopeInput(ScopeInput):
    initial_manage_principal: Literal["users"] | None = None
    scope_backend_type: Literal["DATABRICKS"] = "DATABRICKS"


class SecretInput(ScopeInput):
    key: Name


class PutSecretInput(SecretInput):
    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["string_value"]}, {"required": ["bytes_value"]}]})

    string_value: str = Field("", max_length=MAX_SECRET_BYTES)
    bytes_value: str = Field("", json_schema_extra={"contentEncoding": "base64"})


class AclInput(ScopeInput):
    principal: Principal


class PutAclInput(AclInput):
    permission: Literal["READ", "WRITE", "MANAGE"]


class SecretScopes:
    """As `Management`: reads fold to the log's end, writes answer once they are folded (R9)."""

    def __init__(self, events: EventLog, box: SecretBox) -> None:
        self._events = events
        self._box = box

    async def create(self, request: Request, caller: Token) -> Response:
        """Anybody may; the scope is then theirs, or everybody's."""
        sent = parse(CreateScopeInput, await read_json_object(request))
        manager = sent.initial_manage_principal or caller.principal
        if len((await self._events.refresh()).scopes) >= MAX_SCOPES:
            raise LimitExceeded(f"The workspace holds {MAX_SCOPES} secret scopes, and may hold no more.")
        return await self._published(SecretScopeCreated(at_ms=now_ms(), name=sent.scope, manager=manager))

    async def list(self, caller: Token) -> Response:
        """Those the caller may see."""
        state = await self._events.refresh()
        seen = [scope.name for scope in state.scopes.values() if permission_on(scope, caller, state)]
        return json_response({"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in seen]})

    async def delete(self, request: Request, caller: Token) -> Response:
        sent = parse(ScopeInput, await read_json_object(request))
        scope = await self._require(Permission.MANAGE, sent.scope, caller)
        return await self._published(SecretScopeDeleted(at_ms=now_ms(), scope_id=scope.scope_id))

    async def put_secret(self, request: Request, caller: Token) -> Response:
        sent = parse(PutSecretInput, await read_json_object(request))
        value = parse_value(sent)
        scope = await self._require(Permission.WRITE, sent.scope, caller)
        if len(scope.secrets.keys() | {sent.key}) > MAX_SECRETS:
            raise LimitExceeded(f"Scope {sent.scope} holds {MAX_SECRETS} secrets, and may hold no more.")
        sealed = self._box.seal_anew(value)
        return await self._published(SecretPut(at_ms=now_ms(), scope_id=scope.scope_id, key=sent.key, sealed=sealed))

    async def list_secrets(self, name: str, caller: Token) -> Response:
        scope = await self._require(Permission.READ, name, caller)
        listed = [{"key": key, "last_updated_timestamp": secret.updated_ms} for key, secret in scope.secrets.items()]
        return json_response({"secrets": listed})

    async def delete_secret(self, request: Request, caller: Token) -> Response:
        sent = parse(SecretInput, await read_json_object(request))
        scope = await self._require(Permission.WRITE, sent.scope, caller)
        return await self._published(SecretDeleted(at_ms=now_ms(), scope_id=scope.scope_id, key=sent.key))

    async def put_acl(self, request: Request, caller: Token) -> Response:
        sent = parse(PutAclInput, await read_json_object(request))
        scope = await self._require(Permission.MANAGE, sent.scope, caller)
        event = SecretAclPut(at_ms=now_ms(), scope_id=scope.scope_id, principal=sent.principal, permission=sent.permission)
        return await self._published(event)

    async def get_acl(self, name: str, principal: str, caller: Token) -> Response:
        scope = await self._require(Permission.MANAGE, name, caller)
        return json_response({"principal": principal, "permission": scope.permission(principal)})

    async def list_acls(self, name: str, caller: Token) -> Response:
        scope = await self._require(Permission.MANAGE, name, caller)
        return json_response({"items": [{"principal": who, "permission": permission} for who, permission in scope.acls.items()]})

    async def delete_acl(self, request: Request, caller: Token) -> Response:
        sent = parse(AclInput, await read_json_object(request))
        scope = await self._require(Permission.MANAGE, sent.scope, caller)
        return await self._published(SecretAclDeleted(at_ms=now_ms(), scope_id=scope.scope_id, principal=sent.principal))

    async def _require(self, needed: Permission, name: str, caller: Token) -> SecretScope:
        return require_scope(needed, name, caller, await self._events.refresh())

    async def _published(self, event: SecretEvent) -> Response:
        await self._events.publish(event)
        return json_response({})


def parse_value(sent: PutSecretInput) -> str:
    """The secret, as a model will see it in its environment. Raises ParameterInvalid, never with the value in it."""
    given = sent.model_fields_set & {"string_value", "bytes_value"}
    if len(given) != 1:
        raise ParameterInvalid("A secret needs either 'string_value' or 'bytes_value'.")
    value = sent.string_value if "string_value" in given else _text(sent.bytes_value)
    if len(value.encode()) > MAX_SECRET_BYTES:
        raise ParameterInvalid(f"A secret is at most {MAX_SECRET_BYTES} bytes long.")
    if "\0" in value:
        raise ParameterInvalid("The secret holds a NUL character, which no environment variable can hold.")
    return value


def _text(encoded: str) -> str:
    try:
        return b64decode(encoded, validate=True).decode()
    except ValueError:  # no cause is kept: it may quote the secret
        raise ParameterInvalid("'bytes_value' must be UTF-8 text in base64: it is used as an environment variable.") from None


def secret_routes(scopes: SecretScopes, guard: Guard) -> APIRouter:
    router = APIRouter(prefix=SECRETS, redirect_slashes=False)
    caller = Depends(guard.identified)

    def posted(act: Callable[[Request, Token], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        async def route(request: Request, token: Any = caller) -> Response:
            return await act(request, token)

        return route

    async def listed(token: Any = caller) -> Response:
        return await scopes.list(token)

    async def list_secrets(scope: str, token: Any = caller) -> Response:
        return await scopes.list_secrets(scope, token)

    async def get_acl(scope: str, principal: str, token: Any = caller) -> Response:
        return await scopes.get_acl(scope, principal, token)

    async def list_acls(scope: str, token: Any = caller) -> Response:
        return await scopes.list_acls(scope, token)

    router.add_api_route("/scopes/create", posted(scopes.create), methods=["POST"])
    router.add_api_route("/scopes/list", listed, methods=["GET"])
    router.add_api_route("/scopes/delete", posted(scopes.delete), methods=["POST"])
    router.add_api_route("/put", posted(scopes.put_secret), methods=["POST"])
    router.add_api_route("/get", _refuse_to_tell, methods=["GET"], dependencies=[caller])
    router.add_api_route("/list", list_secrets, methods=["GET"])
    router.add_api_route("/delete", posted(scopes.delete_secret), methods=["POST"])
    router.add_api_route("/acls/put", posted(scopes.put_acl), methods=["POST"])
    router.add_api_route("/acls/get", get_acl, methods=["GET"])
    router.add_api_route("/acls/list", list_acls, methods=["GET"])
    router.add_api_route("/acls/delete", posted(scopes.delete_acl), methods=["POST"])
    return router


async def _refuse_to_tell() -> Response:
    raise RequestRejected("Values of secrets are never returned; a model gets one by '{{secrets/scope/key}}' in its 'environment_vars'.")
