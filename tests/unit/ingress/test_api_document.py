"""Penstock's own OpenAPI document: kept as a snapshot, without a route missing, and no answer that it does not say."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from services.ingress.access_lists import AccessListInput, ConfInput, ReplaceAccessListInput, UpdateAccessListInput
from services.ingress.api_document import OPERATIONS, PATH, SCORING, Operation, api_document
from services.ingress.batch_input import BatchInput
from services.ingress.payloads import ConfigInput, GatewayInput, NotificationsChangeInput, RateLimitsInput, TagsInput, TelemetryChangeInput
from services.ingress.permissions import PermissionsInput
from services.ingress.registry import Registry
from services.ingress.secret_scopes import AclInput, CreateScopeInput, PutAclInput, PutSecretInput, ScopeInput, SecretInput
from services.ingress.statement_routes import StatementInput
from services.ingress.tokens import CreateTokenInput, DeleteTokenInput, OnBehalfInput
from services.ingress.topics import TopicsInput
from services.ingress.workspace import DeleteInput, FolderInput
from services.shared.errors import RequestRejected
from tests.unit.ingress.callers import STATE
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.ingress.hostile_json import HOSTILE
from tests.unit.ingress.routes_app import app_over
from tests.unit.ingress.test_permissions import called_by
from tests.unit.ingress.test_secret_routes import WITH_SCOPE

DOCUMENT = schemathesis.openapi.from_dict(api_document())
SNAPSHOT = Path(__file__).with_name("openapi.json")
BODIES: dict[Any, Any] = {  # what each type is answered for with 200
    ConfigInput: {"served_entities": [{"entity_name": "churn", "entity_version": 2}]},
    GatewayInput: {"inference_table_config": {"catalog_name": "main", "schema_name": "ml"}, "rate_limits": [{"calls": 5}]},
    RateLimitsInput: {"rate_limits": [{"calls": "5", "key": "user", "principal": "ada"}]},
    TelemetryChangeInput: {"telemetry_config": {"inference_table_config": {"sampling_fraction": 0.5}}},
    TagsInput: {"add_tags": [{"key": "team", "value": "a"}, {"key": "bare"}]},
    NotificationsChangeInput: {"email_notifications": {"on_update_failure": ["ops@example.org"]}},
    PermissionsInput: {"access_control_list": [{"group_name": "team", "permission_level": "CAN_VIEW"}]},
    FolderInput: {"path": "/Shared/new"},
    DeleteInput: {"path": "/Shared/new", "recursive": "true"},
    CreateScopeInput: {"scope": "new", "initial_manage_principal": "users"},
    ScopeInput: {"scope": "prod"},
    SecretInput: {"scope": "prod", "key": "k"},
    PutSecretInput: {"scope": "prod", "key": "new", "bytes_value": "dHdv"},
    AclInput: {"scope": "prod", "principal": "team"},
    PutAclInput: {"scope": "prod", "principal": "eve", "permission": "READ"},
    AccessListInput: {"label": "ours", "list_type": "ALLOW", "ip_addresses": ["127.0.0.1"]},
    ReplaceAccessListInput: {"label": "ours", "list_type": "ALLOW", "enabled": "true"},
    UpdateAccessListInput: {"enabled": False},
    CreateTokenInput: {"comment": "laptop", "lifetime_seconds": "3600", "autoscope_enabled": False, "scopes": []},
    OnBehalfInput: {"application_id": "robot"},
    DeleteTokenInput: {"token_id": "ada"},
    TopicsInput: {"enabled": "true"},
    ConfInput: {"enableIpAccessLists": "false"},
    StatementInput: {"statement": "SELECT 1", "warehouse_id": "any", "wait_timeout": "0s"},
    BatchInput: {"dataframe_records": [{"x": 1.5}]},
    dict[str, Any]: {"items": []},
}
NEEDED = {"keys": "enableIpAccessLists", "path": "/Shared", "scope": "prod", "principal": "team", "expires": "1", "signature": "x"}
NOBODY = "00000000-0000-4000-8000-000000000001"
PLACES = {
    "name": "churn",
    "endpoint_id": "e1",
    "served": "a",
    "path": "Shared/x",
    "list_id": NOBODY,
    "statement_id": NOBODY,
    "batch_id": NOBODY,
    "invocation_id": NOBODY,
    "chunk_index": 0,
    "token_id": "viewer",
}


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_the_document_is_the_one_that_was_reviewed() -> None:
    assert SNAPSHOT.read_text() == written(api_document()), "if meant: python -m tests.unit.ingress.test_api_document, and review the diff"


def test_each_route_is_in_the_document_once(tmp_path: Path) -> None:
    app = app_over(FoldingLog(STATE), Registry("http://127.0.0.1:1"), tmp_path)
    routes = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    assert sorted(routes) == sorted((operation.method, operation.path) for operation in OPERATIONS)
    ids = [operation["operationId"] for methods in api_document()["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def path_of(operation: Operation) -> str:
    return operation.path.format(**PLACES)


async def test_only_what_is_said_to_be_public_is(tmp_path: Path) -> None:
    async with called_by("nobody", tmp_path) as http:
        for operation in OPERATIONS:
            answer = await http.request(operation.method, path_of(operation))
            assert (answer.status_code == 401) is not operation.is_public, named(operation)


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
async def test_an_admin_is_answered_as_the_document_says(operation: Operation, tmp_path: Path) -> None:
    async with called_by("admin", tmp_path, WITH_SCOPE) as http:
        await ask(operation, http)


@pytest.mark.parametrize("who", ["ada", "stranger"])
async def test_others_are_answered_as_the_document_says(who: str, tmp_path: Path) -> None:
    async with called_by(who, tmp_path, WITH_SCOPE) as http:
        for operation in sorted(OPERATIONS, key=lambda operation: operation.method == "DELETE"):
            await ask(operation, http)


async def ask(operation: Operation, http: httpx.AsyncClient) -> None:
    query = {name: NEEDED[name] for name in operation.needs}
    answer = await http.request(operation.method, path_of(operation), params=query, json=BODIES.get(operation.takes))
    DOCUMENT[operation.path][operation.method].validate_response(answer)


async def test_a_wrong_method_is_told_which_are_right(tmp_path: Path) -> None:
    async with called_by("ada", tmp_path) as http:
        for path, methods in api_document()["paths"].items():
            if path not in SCORING:
                answer = await http.options(path.format(**PLACES))
                assert (answer.status_code, answer.headers["allow"]) == (405, ", ".join(sorted(methods)).upper()), path
        assert (await http.post(PATH)).headers["allow"] == "GET"


async def test_the_document_needs_no_token(tmp_path: Path) -> None:
    async with called_by("nobody", tmp_path) as http:
        assert (await http.get(PATH)).json() == api_document()


@pytest.mark.parametrize(("raw", "refusal"), HOSTILE)
async def test_a_body_that_is_no_plain_json_object_is_refused_by_every_route_that_takes_one(
    raw: bytes, refusal: type[RequestRejected], tmp_path: Path
) -> None:
    async with called_by("admin", tmp_path) as http:
        for operation in OPERATIONS:
            if operation.takes not in (None, bytes):
                answer = await http.request(operation.method, path_of(operation), content=raw)
                assert (answer.status_code, answer.json()["error_code"]) == (400, refusal.code), named(operation)


if __name__ == "__main__":
    SNAPSHOT.write_text(written(api_document()))
