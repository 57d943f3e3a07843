"""Secrets put wherever a caller can put one are found nowhere: a stack of its own, every logger at DEBUG."""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, ResourceAlreadyExists
from databricks.sdk.service.workspace import AclItem, AclPermission, ScopeBackendType, SecretScope
from deltalake import DeltaTable

from services.cli.admin_token import read_token
from tests.e2e.canaries import Canaries, files, leaks, processes, records, redis_keys
from tests.e2e.conftest import eventually, wait_for_update
from tests.e2e.models import ECHO_SIGNATURE, Leaky, register
from tests.e2e.own_stack import OwnStack

ENDPOINTS = "/api/2.0/serving-endpoints"
INVOCATIONS = "/serving-endpoints/leaky/invocations"
PLACES = ("wrong token", "basic", "header", "cookie", "query", "body", "refused secret", "environment", "secret", "bytes", "payload")
QUOTED = '"\\\té'  # the end of the secret: what writes it in quotes writes it otherwise
TABLE = {"enabled": True, "catalog_name": "main", "schema_name": "e2e"}


@pytest.fixture
def debugged(tmp_path: Path) -> Iterator[OwnStack]:
    stack = OwnStack(tmp_path, PENSTOCK_LOG_LEVEL="DEBUG")
    stack.up()
    yield stack
    stack.down()


async def test_a_secret_is_found_nowhere_but_in_the_model_s_environment(debugged: OwnStack) -> None:
    status = debugged.status()
    admin = read_token(Path(status["config_file"])) or ""
    token = debugged.run("token", "create", "ada@example.org").stdout.strip()
    canaries = {place: f"canary-{uuid4().hex}" for place in PLACES} | {"token": token, "admin token": admin}
    canaries["basic, encoded"] = b64encode(f"token:{canaries['basic']}".encode()).decode()
    ada = WorkspaceClient(host=status["host"], token=token)
    keep_secrets(ada, canaries)
    headers = {"Authorization": f"Bearer {token}", "X-Secret": canaries["header"], "User-Agent": canaries["header"]}
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=status["host"], headers=headers, timeout=150) as http:
        http.event_hooks["response"] = [httpx.Response.read, answers.append]
        deploy_and_score(http, register(status["mlflow"], "leaky", Leaky(), ECHO_SIGNATURE), canaries)
        ask_wrongly(http, canaries)
        look_around(http)
    shown = [(f"{answer.request.method} {answer.request.url.path}", answer.content + str(answer.headers).encode()) for answer in answers]
    assert {place for name, place in leaks(canaries, iter(shown)) if name != "payload"} == set()
    assert leaks({"payload": canaries["payload"]}, iter(shown)) == {("payload", f"POST {INVOCATIONS}")}, "in the model's own error"

    table = Path(status["tables"]) / "main" / "e2e" / "leaky_payload"
    scored = sum(answer.request.url.path == INVOCATIONS and b"canary" in answer.request.content for answer in answers)
    await eventually(lambda: (table / "_delta_log").exists() and DeltaTable(table).to_pyarrow_table().num_rows >= scored)
    await eventually(lambda: not leaks({"payload": canaries["payload"]}, redis_keys(status["redis"])))
    rows = [("table", json.dumps(row, default=str).encode()) for row in DeltaTable(table).to_pyarrow_table().to_pylist()]
    assert {name for name, _ in leaks(canaries, iter(rows))} == {"payload"}
    in_topics = leaks(canaries, iter(await records(status["kafka"])))
    assert {topic.split(".")[1] for name, topic in in_topics if name == "payload"} == {"pool", "outcomes"}
    assert {(name, topic) for name, topic in in_topics if name != "payload"} == set()
    assert leaks(canaries, redis_keys(status["redis"])) == set()
    assert leaks(canaries, processes(debugged.everything())) == set()

    debugged.down()
    kept = leaks(canaries, files(debugged.state))
    assert {(name, place) for name, place in kept if name != "payload"} == {("admin token", "databrickscfg")}, "where its owner finds it"
    assert {place[:16] for name, place in kept if name == "payload"} == {"redis/appendonly"}, "Redis' journal of the answers it passed on"
    logs = "".join(path.read_text() for path in debugged.state.glob("logs/*.log"))
    assert logs.count("'[REDACTED]' and [REDACTED]") > 3, "what the model printed is there"
    assert '"level": "DEBUG"' in logs


def keep_secrets(ada: WorkspaceClient, canaries: Canaries) -> None:
    """By every call of `w.secrets`."""
    api = ada.secrets
    api.create_scope("vault")
    with pytest.raises(ResourceAlreadyExists):
        api.create_scope("vault")
    assert list(api.list_scopes()) == [SecretScope(name="vault", backend_type=ScopeBackendType.DATABRICKS)]
    api.put_secret("vault", "password", string_value="not for long")
    api.put_secret("vault", "password", string_value=canaries["secret"] + QUOTED)
    api.put_secret("vault", "bytes", bytes_value=b64encode(canaries["bytes"].encode()).decode())
    api.put_secret("vault", "gone", string_value=canaries["secret"])
    api.delete_secret("vault", "gone")
    assert [secret.key for secret in api.list_secrets("vault")] == ["password", "bytes"]
    with pytest.raises(BadRequest, match="never returned"):
        api.get_secret("vault", "password")
    api.put_acl("vault", "bob", AclPermission.READ)
    assert api.get_acl("vault", "bob") == AclItem("bob", AclPermission.READ)
    assert {acl.principal for acl in api.list_acls("vault")} == {"ada@example.org", "bob"}
    api.delete_acl("vault", "bob")
    api.create_scope("other", initial_manage_principal="users")
    api.delete_scope("other")
    with pytest.raises(NotFound):
        api.list_secrets("other")
    with pytest.raises(InvalidParameterValue) as refused:
        api.put_secret("vault", "a/b", string_value=canaries["refused secret"])
    assert canaries["refused secret"] not in str(refused.value)


def deploy_and_score(http: httpx.Client, version: str, canaries: Canaries) -> None:
    """An endpoint whose model tells what it can, and an update of it that fails with the secret in its words."""
    variables = {"PASSWORD": "{{secrets/vault/password}}", "BYTES": "{{secrets/vault/bytes}}", "PLAIN": canaries["environment"]}
    entity = {"name": "a", "entity_name": "leaky", "entity_version": version, "workload_size": "Small", "environment_vars": variables}
    body = {"name": "leaky", "config": {"served_entities": [entity]}, "ai_gateway": {"inference_table_config": TABLE}}
    created = http.post(ENDPOINTS, json=body)
    assert created.status_code == 200, created.text
    ready = wait_for_update(http, "leaky")
    assert ready["state"]["ready"] == "READY", ready
    assert ready["config"]["served_entities"][0]["environment_vars"] == variables | {"PLAIN": "[redacted]"}

    scored = http.post(INVOCATIONS, json={"inputs": {"text": [canaries["payload"]]}})
    assert scored.json() == {"predictions": [sha256((canaries["secret"] + QUOTED).encode()).hexdigest()]}
    raised = http.post(INVOCATIONS, json={"inputs": {"text": [f"raise {canaries['payload']}"]}})
    assert f"no login with '[REDACTED]' and [REDACTED] for ['raise {canaries['payload']}']" in raised.json()["stack_trace"]

    failing = entity | {"environment_vars": variables | {"FAILS": "1"}}
    assert http.put(f"{ENDPOINTS}/leaky/config", json={"served_entities": [failing]}).status_code == 200
    failed = wait_for_update(http, "leaky")
    assert failed["state"] == {"ready": "READY", "config_update": "UPDATE_FAILED", "suspend": "NOT_SUSPENDED"}
    state = failed["pending_config"]["served_entities"][0]["state"]
    assert "no login with '[REDACTED]' and [REDACTED]" in state["deployment_state_message"]


def ask_wrongly(http: httpx.Client, canaries: Canaries) -> None:
    """What goes wrong on the way is told without the secret that came with it."""
    entity: dict[str, Any] = {"entity_name": "leaky", "entity_version": "1", "environment_vars": {}}
    mixed, unknown = f"{canaries['body']} {{{{secrets/vault/password}}}}", "{{secrets/vault/unknown}}"
    for path in (INVOCATIONS, ENDPOINTS, "/api/2.0/nothing-here"):
        asked = f"{path}?token={canaries['query']}&limit={canaries['query']}"
        for wrong in (f"Bearer {canaries['wrong token']}", f"Basic {canaries['basic, encoded']}", f"Digest {canaries['wrong token']}"):
            assert http.post(asked, headers={"Authorization": wrong}, json={}).status_code in (401, 404)
        for raw in (f'{{"{canaries["body"]}": ', f'{{"{canaries["body"]}": NaN}}', f'{{"name": ["{canaries["body"]}"]}}'):
            content = raw if path != INVOCATIONS else ""
            cookie = {"Cookie": f"session={canaries['cookie']}"}
            assert http.post(asked, content=content, headers={"Content-Type": "application/json", **cookie}).status_code in (400, 404)
    for value in (mixed, unknown):
        config = {"served_entities": [entity | {"environment_vars": {"PASSWORD": value, "OTHER": canaries["environment"]}}]}
        assert http.post(ENDPOINTS, json={"name": "refused", "config": config}).status_code == 400
    for sent in ({"string_value": [canaries["refused secret"]]}, {"bytes_value": canaries["refused secret"]}):
        assert http.post("/api/2.0/secrets/put", json={"scope": "vault", "key": "k", **sent}).status_code == 400
    assert http.get(f"{ENDPOINTS}/leaky/events?limit={canaries['query']}").status_code == 400
    assert http.get(f"{ENDPOINTS}/leaky/served-models/a/logs?config_version={canaries['query']}").status_code == 400


def look_around(http: httpx.Client) -> None:
    """At all that can be read."""
    parts = ("events", "metrics", "openapi", "served-models/a/logs", "served-models/a/build-logs")
    others = ("secrets/scopes/list", "secrets/list?scope=vault", "secrets/acls/list?scope=vault", "preview/scim/v2/Me")
    paths = [ENDPOINTS, f"{ENDPOINTS}/leaky", *(f"{ENDPOINTS}/leaky/{part}" for part in parts), *(f"/api/2.0/{other}" for other in others)]
    for path in (*paths, "/metrics", "/health/ready", "/openapi.json"):
        assert http.get(path).status_code == 200, path
