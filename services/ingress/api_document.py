"""Penstock's own OpenAPI document, `GET /openapi.json`: every route with what it takes, answers and refuses. Pure.

A route that is not in the table below fails `tests/unit/ingress/test_api_document.py`, which also keeps the document's snapshot;
schemathesis holds a running ingress to it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from services.ingress import answers
from services.ingress.access_lists import (
    CONF,
    LISTS,
    ONE_LIST,
    SWITCH,
    AccessListInput,
    ConfInput,
    ReplaceAccessListInput,
    UpdateAccessListInput,
)
from services.ingress.batch_input import FILES, TABLE_SCHEMA, BatchInput
from services.ingress.batch_routes import FORMS, PREFIXES
from services.ingress.gate import OPEN_TO_ALL
from services.ingress.http_errors import json_response
from services.ingress.payloads import (
    FLAG_SCHEMA,
    NAME_SCHEMA,
    ConfigInput,
    CreateInput,
    GatewayInput,
    NotificationsChangeInput,
    RateLimitsInput,
    TagsInput,
    TelemetryChangeInput,
)
from services.ingress.permissions import PERMISSIONS, PermissionsInput
from services.ingress.secret_scopes import SECRETS, AclInput, CreateScopeInput, PutAclInput, PutSecretInput, ScopeInput, SecretInput
from services.ingress.statement_routes import API as STATEMENTS
from services.ingress.statement_routes import RESULTS, StatementInput
from services.ingress.tokens import MANAGED, ON_BEHALF, ONE_MANAGED, TOKENS, CreateTokenInput, DeleteTokenInput, OnBehalfInput
from services.ingress.topics import TopicsInput
from services.ingress.unsupported import ROUTES
from services.ingress.workspace import API as WORKSPACE
from services.ingress.workspace import IMPORT_FILE, DeleteInput, FolderInput

PATH = "/openapi.json"
_ENDPOINTS = "/api/2.0/serving-endpoints"
_ONE = f"{_ENDPOINTS}/{{name}}"
_SERVED = f"{_ONE}/served-models/{{served}}"
_LIMIT = {"type": "string", "pattern": "^0*[1-9][0-9]*$"}
_VERSION = {"type": "string", "pattern": "^[0-9]+$"}
_ANY_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}
_PATH_PARAMETERS = {
    "name": NAME_SCHEMA,
    "served": NAME_SCHEMA,
    "endpoint_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "path": _ANY_TEXT,
    "list_id": {"type": "string", "format": "uuid"},
    "statement_id": {"type": "string", "format": "uuid"},
    "invocation_id": {"type": "string", "format": "uuid"},
    "batch_id": {"type": "string", "format": "uuid"},
    "chunk_index": _WHOLE,
    "token_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
_CONF_KEY = {"enum": [SWITCH]}
_REF_TEMPLATE = "#/components/schemas/{model}"
_JSON, _TEXT, _BYTES = "application/json", "text/plain", "application/octet-stream"
_SCORING_STATUSES = (400, 401, 403, 404, 415, 422, 429, 500, 503, 504)
_PREFERENCES = ("Prefer", "Idempotency-Key")
_BEARER, _BASIC = "token", "password"  # names of the security schemes


@dataclass(frozen=True)
class Operation:
    """`gives` and `takes` are types of JSON objects, or `bytes`; to give `str` is a page for Prometheus, None nothing but refusals."""

    method: str
    path: str
    summary: str
    gives: Any
    takes: Any = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # schema by name
    needs: frozenset[str] = frozenset()  # what of the query must be there
    is_public: bool = False
    is_limited: bool = True  # where it changes something: by the workspace's limit of changes
    refusals: frozenset[int] = frozenset()  # beside those that follow from the rest
    files: tuple[str, ...] = ()  # media types of what it takes as well
    defers: Any = None  # type of the JSON object that a 202 gives

    @property
    def statuses(self) -> list[int]:
        """All it may answer with but 200."""
        follow = {500} if self.is_public else {401, 500, 503}
        if self.path not in OPEN_TO_ALL:
            follow |= {403}  # at least for the address it comes from
        if "{" in self.path:
            follow |= {404}
        if self.takes is not None or self.query:
            follow |= {400}
        if self.method != "GET" and self.is_limited:
            follow |= {429}
        return sorted(follow | self.refusals)


def _on_list(path: str) -> tuple[Operation, ...]:
    return (
        Operation("POST", path, "Create an endpoint", answers.EndpointDetailed, CreateInput, refusals=frozenset({404, 409})),
        Operation("GET", path, "The endpoints the caller may see", answers.EndpointList),
    )


def _in_workspace() -> tuple[Operation, ...]:
    at = {"path": {"type": "string", "pattern": "^/"}}

    def row(method: str, path: str, summary: str, gives: Any, takes: Any = None, **more: Any) -> Operation:
        needs = frozenset({"path"} & set(more.get("query", {})))
        return Operation(method, path, summary, gives, takes, needs=needs, is_limited=False, refusals=frozenset({403, 404, 409}), **more)

    return (
        row("GET", f"{WORKSPACE}/get-status", "What is at a path", answers.WorkspaceObject, query=at),
        row("GET", f"{WORKSPACE}/list", "What is in a folder", answers.WorkspaceObjects, query=at),
        row("GET", f"{WORKSPACE}/export", "A file", answers.Exported, query=at | {"direct_download": FLAG_SCHEMA}),
        row("POST", f"{WORKSPACE}/mkdirs", "Make a folder", answers.Nothing, FolderInput),
        row("POST", f"{WORKSPACE}/delete", "Delete a file or folder", answers.Nothing, DeleteInput),
        row("POST", IMPORT_FILE.replace(":path", ""), "Write a file", answers.Nothing, bytes, query={"overwrite": FLAG_SCHEMA}),
        Operation("POST", "/telemetry-ext", "Taken, and kept nowhere", answers.TelemetryTaken, dict[str, Any], is_limited=False),
    )


def _of_secrets() -> tuple[Operation, ...]:
    scope, principal = {"scope": _ANY_TEXT}, {"principal": _ANY_TEXT}

    def row(method: str, path: str, summary: str, gives: Any, takes: Any = None, query: Any = None) -> Operation:
        query = query or {}
        refusals = frozenset({403, 404})
        return Operation(method, f"{SECRETS}/{path}", summary, gives, takes, query, frozenset(query), is_limited=False, refusals=refusals)

    return (
        Operation("GET", f"{SECRETS}/scopes/list", "The secret scopes the caller may read", answers.SecretScopeList),
        Operation(
            "POST",
            f"{SECRETS}/scopes/create",
            "Create a secret scope",
            answers.Nothing,
            CreateScopeInput,
            is_limited=False,
            refusals=frozenset({409}),
        ),
        row("POST", "scopes/delete", "Delete a secret scope and all that is in it", answers.Nothing, ScopeInput),
        row("POST", "put", "Add a secret, or replace its value", answers.Nothing, PutSecretInput),
        row("GET", "list", "The keys of the secrets in a scope", answers.SecretList, query=scope),
        row("POST", "delete", "Delete a secret", answers.Nothing, SecretInput),
        Operation("GET", f"{SECRETS}/get", "Values of secrets are never returned", None, refusals=frozenset({400})),
        row("POST", "acls/put", "Say what a principal may do with a scope", answers.Nothing, PutAclInput),
        row("GET", "acls/get", "What a principal may do by an entry of its own", answers.SecretAcl, query=scope | principal),
        row("GET", "acls/list", "The access control list of a scope", answers.SecretAcls, query=scope),
        row("POST", "acls/delete", "Delete an entry of the list", answers.Nothing, AclInput),
    )


def _of_access_lists() -> tuple[Operation, ...]:
    invalid = frozenset({400})
    return (
        Operation("GET", LISTS, "The IP access lists", answers.AccessListList),
        Operation("POST", LISTS, "Create an IP access list", answers.OneAccessList, AccessListInput),
        Operation("GET", ONE_LIST, "An IP access list", answers.OneAccessList),
        Operation("PUT", ONE_LIST, "Replace an IP access list", answers.OneAccessList, ReplaceAccessListInput),
        Operation("PATCH", ONE_LIST, "Change an IP access list", answers.OneAccessList, UpdateAccessListInput),
        Operation("DELETE", ONE_LIST, "Delete an IP access list", answers.Nothing, refusals=invalid),
        Operation("GET", CONF, "A setting of the workspace", answers.WorkspaceConf, query={"keys": _CONF_KEY}, needs=frozenset({"keys"})),
        Operation("PATCH", CONF, "Change a setting of the workspace", answers.Nothing, ConfInput),
    )


def _of_statements() -> tuple[Operation, ...]:
    one = f"{STATEMENTS}/{{statement_id}}"
    link: dict[str, dict[str, Any]] = {"expires": _WHOLE, "signature": _ANY_TEXT}
    result = f"{RESULTS}/{{statement_id}}/{{chunk_index}}"

    def row(method: str, path: str, summary: str, gives: Any, takes: Any = None, *refusals: int) -> Operation:
        return Operation(method, path, summary, gives, takes, is_limited=False, refusals=frozenset(refusals))

    return (
        *(
            row("POST", path, "Run a SELECT over inference tables", answers.StatementTold, StatementInput)
            for path in (STATEMENTS, f"{STATEMENTS}/")
        ),
        row("GET", one, "How a statement stands, and its first rows", answers.StatementTold),
        row("GET", f"{one}/result/chunks/{{chunk_index}}", "More of its rows", answers.StatementChunk, None, 400),
        row("POST", f"{one}/cancel", "End a statement", answers.Nothing),
        Operation("GET", result, "Rows behind an external link", bytes, query=link, needs=frozenset(link), is_public=True),
    )


def _of_batches(prefix: str) -> tuple[Operation, ...]:
    several = f"{prefix}/batches"
    one, into, forms = f"{several}/{{batch_id}}", {"output_table": TABLE_SCHEMA}, {"format": {"enum": list(FORMS)}}
    refused = frozenset({409, 415, 422})
    return (
        Operation("POST", several, "Submit a batch", answers.BatchView, BatchInput, into, files=tuple(FILES), refusals=refused),
        Operation("GET", several, "The batches the caller may see, newest first", answers.BatchList),
        Operation("GET", one, "How far a batch is", answers.BatchView),
        Operation("POST", f"{one}/cancel", "End a batch", answers.BatchView),
        Operation("GET", f"{one}/results", "Rows with predictions or errors, once it has ended", bytes, query=forms),
    )


def _of_kept_answers(prefix: str) -> Operation:
    path = f"{prefix}/invocations/{{invocation_id}}"
    refused = frozenset(_SCORING_STATUSES)
    return Operation("GET", path, "The answer that a 202 put off", answers.Predictions, refusals=refused, defers=answers.PendingInvocation)


def _of_tokens() -> tuple[Operation, ...]:
    by = {"created_by_username": _ANY_TEXT}
    return (
        Operation("POST", f"{TOKENS}/create", "Make a token for oneself", answers.NewToken, CreateTokenInput),
        Operation("GET", f"{TOKENS}/list", "One's own tokens", answers.TokenList),
        Operation("POST", f"{TOKENS}/delete", "End a token of one's own", answers.Nothing, DeleteTokenInput, refusals=frozenset({404})),
        Operation("POST", ON_BEHALF, "Make a token for a service principal", answers.NewManagedToken, OnBehalfInput),
        Operation("GET", MANAGED, "Everybody's tokens", answers.ManagedTokenList, query=by),
        Operation("GET", ONE_MANAGED, "Anybody's token", answers.OneManagedToken),
        Operation("DELETE", ONE_MANAGED, "End anybody's token", answers.Nothing),
    )


_CONFLICT = frozenset({409})
OPERATIONS = (
    Operation("GET", "/.well-known/databricks-config", "What clients ask a host first", answers.HostMetadata, is_public=True),
    Operation("GET", "/health/live", "Whether this process answers", answers.Health, is_public=True),
    Operation("GET", "/health/ready", "Whether a request could be served", answers.Health, is_public=True, refusals=frozenset({503})),
    Operation("GET", "/metrics", "Penstock's own metrics, of the endpoints the caller may see", str),
    Operation("GET", "/api/2.0/preview/scim/v2/Me", "Who calls", answers.Me),
    *_on_list(_ENDPOINTS),
    *_on_list(f"{_ENDPOINTS}/"),
    Operation("GET", _ONE, "An endpoint", answers.EndpointDetailed),
    Operation("DELETE", _ONE, "Delete an endpoint", answers.Nothing),
    Operation("PUT", f"{_ONE}/config", "Replace the config of an endpoint", answers.EndpointDetailed, ConfigInput, refusals=_CONFLICT),
    Operation("POST", f"{_ONE}/config:cancel", "Cancel the update under way", answers.EndpointDetailed, refusals=_CONFLICT),
    Operation("POST", f"{_ONE}/config:stop", "Stop an endpoint", answers.EndpointDetailed, refusals=_CONFLICT),
    Operation("POST", f"{_ONE}/config:start", "Start a stopped endpoint", answers.EndpointDetailed, refusals=_CONFLICT | {400}),
    Operation("PUT", f"{_ONE}/ai-gateway", "Replace the AI gateway config", answers.Gateway, GatewayInput),
    Operation("PUT", f"{_ONE}/rate-limits", "Replace the rate limits", answers.RateLimits, RateLimitsInput),
    Operation("PATCH", f"{_ONE}/telemetry-config", "Log a share of the requests", answers.EndpointDetailed, TelemetryChangeInput),
    Operation("PATCH", f"{_ONE}/tags", "Add and remove tags", answers.Tags, TagsInput),
    Operation("PATCH", f"{_ONE}/notifications", "Replace the addresses to notify", answers.Notified, NotificationsChangeInput),
    Operation("GET", f"{_ONE}/events", "What befell an endpoint, newest first", answers.Events, query={"limit": _LIMIT}),
    Operation("GET", f"{_ONE}/metrics", "Metrics of an endpoint", str),
    Operation("GET", f"{_ONE}/openapi", "What the served models take, as OpenAPI", dict[str, Any], refusals=frozenset({400})),
    Operation("GET", f"{_ONE}/topics", "Whether the endpoint's public topics are read", answers.Topics),
    Operation("PUT", f"{_ONE}/topics", "Switch the public topics on or off", answers.Topics, TopicsInput),
    Operation("GET", f"{_ONE}/asyncapi", "The public topics, as AsyncAPI", dict[str, Any]),
    Operation("GET", f"{_SERVED}/logs", "What a served model printed", answers.Logs, query={"config_version": _VERSION}),
    Operation("GET", f"{_SERVED}/build-logs", "How a served model was built", answers.Logs, query={"config_version": _VERSION}),
    Operation("GET", PERMISSIONS, "The permissions of an endpoint", answers.AccessControl),
    Operation("PUT", PERMISSIONS, "Replace the permissions", answers.AccessControl, PermissionsInput),
    Operation("PATCH", PERMISSIONS, "Add to the permissions", answers.AccessControl, PermissionsInput),
    Operation("GET", f"{PERMISSIONS}/permissionLevels", "The levels there are", answers.PermissionLevels),
    *_of_access_lists(),
    *_of_tokens(),
    *_in_workspace(),
    *_of_secrets(),
    *_of_statements(),
    *(operation for prefix in PREFIXES for operation in _of_batches(prefix)),
    *(_of_kept_answers(prefix) for prefix in PREFIXES),
    *(Operation(method, path, f"{what} are not offered", None, refusals=frozenset({400})) for method, path, what in ROUTES),
)
SCORING = (
    "/serving-endpoints/{name}/invocations",
    f"{_ONE}/invocations",
    "/serving-endpoints/{name}/served-models/{served}/invocations",
)


def api_routes() -> APIRouter:
    """The document tells no secret, so it takes no token."""
    document = api_document()

    async def described() -> Response:
        return json_response(document)

    router = APIRouter(redirect_slashes=False)
    router.add_api_route(PATH, described, methods=["GET"], include_in_schema=False)
    return router


def allowed(path: str) -> str:
    """The methods there are at a path of the document, as the header `Allow` names them."""
    return ", ".join(sorted({operation.method for operation in OPERATIONS if operation.path == path})) or "GET"


def api_document() -> dict[str, Any]:
    kinds = {answers.ErrorEnvelope, answers.ScoringFault, answers.Predictions, answers.PendingInvocation}
    kinds |= {kind for operation in OPERATIONS for kind in (operation.gives, operation.takes) if isinstance(kind, type)}
    named = sorted(kinds - {str, bytes}, key=lambda kind: kind.__name__)
    schemas, shared = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in named], ref_template=_REF_TEMPLATE, schema_generator=_Schemas
    )
    by_kind = {kind: schema for (kind, _), schema in schemas.items()} | {dict[str, Any]: {"type": "object"}, bytes: {}}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, by_kind)
    for path in SCORING:
        paths[path] = {"post": _scoring(path, by_kind)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": version("penstock")},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(shared["$defs"].items())),
            "responses": {
                _word(status): _answer(_JSON, by_kind[answers.ErrorEnvelope], HTTPStatus(status).phrase)
                for status in sorted({status for operation in OPERATIONS for status in operation.statuses})
            },
            "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}, _BASIC: {"type": "http", "scheme": "basic"}},
        },
        "security": [{_BEARER: []}, {_BASIC: []}],
    }


class _Schemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title that repeats the name of its field says nothing."""
        return False


def _described(operation: Operation, by_kind: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation.method, operation.path),
        "responses": {str(status): {"$ref": f"#/components/responses/{_word(status)}"} for status in operation.statuses},
    }
    if operation.gives is str:
        described["responses"]["200"] = _answer(_TEXT, {"type": "string"})
    elif operation.gives is bytes:
        described["responses"]["200"] = _answer("*/*", {})
    elif operation.gives is not None:
        described["responses"]["200"] = _answer(_JSON, by_kind[operation.gives])
    if operation.defers is not None:
        described["responses"]["202"] = _answer(_JSON, by_kind[operation.defers], "Accepted")
    if operation.takes is not None:
        media_type = _BYTES if operation.takes is bytes else _JSON
        described["requestBody"] = {"required": operation.takes is not bytes, "content": {media_type: {"schema": by_kind[operation.takes]}}}
        described["requestBody"]["content"] |= {media_type: {"schema": by_kind[bytes]} for media_type in operation.files}
    if operation.gives is answers.Exported:
        described["responses"]["200"]["content"][_BYTES] = {"schema": by_kind[bytes]}
    if parameters := _path_parameters(operation.path) + _query_parameters(operation):
        described["parameters"] = parameters
    if operation.is_public:
        described["security"] = []
    return described


def _scoring(path: str, by_kind: Mapping[Any, Any]) -> dict[str, Any]:
    """What a model takes and how it fails is its own: `GET …/openapi` of its endpoint says it."""
    refused = {str(status): _answer(_JSON, by_kind[answers.ScoringFault], HTTPStatus(status).phrase) for status in _SCORING_STATUSES}
    return {
        "summary": "Score",
        "operationId": _operation_id("POST", path),
        "parameters": [*_path_parameters(path), *({"name": name, "in": "header", "schema": _ANY_TEXT} for name in _PREFERENCES)],
        "requestBody": {"required": True, "content": {_JSON: {"schema": {"type": "object"}}, "text/csv": {"schema": {"type": "string"}}}},
        "responses": refused
        | {"200": _answer(_JSON, by_kind[answers.Predictions]), "202": _answer(_JSON, by_kind[answers.PendingInvocation], "Accepted")},
    }


def _word(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _answer(media_type: str, schema: Any, description: str = "OK") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]} for name in names]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    query = operation.query.items()
    return [{"name": name, "in": "query", "required": name in operation.needs, "schema": schema} for name, schema in query]


def _operation_id(method: str, path: str) -> str:
    words = [method.lower(), *re.findall(r"\w+", path)]
    return "_".join([*words, "slash"] if path.endswith("/") else words)
