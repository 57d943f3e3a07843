"""Secret scopes over HTTP and without a broker: what each permission allows, what is refused, and that no value comes back."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress import secret_scopes
from services.ingress.management import ENDPOINTS
from services.ingress.registry import Registry
from services.shared.control_events import SecretAclPut, SecretPut, SecretScopeCreated
from services.shared.endpoints import ServedEntity
from services.shared.secret_box import SecretBox
from tests.unit.ingress.callers import STATE
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.ingress.routes_app import app_over
from tests.unit.ingress.test_permissions import called_by
from tests.unit.shared.control_log import fold, ready

API = "/api/2.0/secrets"
OK, ABSENT, DENIED, INVALID = (200, None), (404, "RESOURCE_DOES_NOT_EXIST"), (403, "PERMISSION_DENIED"), (400, "INVALID_PARAMETER_VALUE")
CANARY = "hunter2-canary"


def entry(principal: str, permission: Any) -> SecretAclPut:
    return SecretAclPut(scope_id="s1", principal=principal, permission=permission, at_ms=2)


WITH_SCOPE = fold(
    SecretScopeCreated(scope_id="s1", name="prod", manager="ada", at_ms=1),
    SecretPut(scope_id="s1", key="k", sealed="sealed-k", at_ms=1),
    entry("manager", "MANAGE"),
    entry("querier", "WRITE"),
    entry("viewer", "READ"),
    entry("team", "READ"),
    state=STATE,
)
MANAGERS, WRITERS, READERS, OTHERS = {"admin", "ada", "manager"}, {"querier"}, {"viewer", "member"}, {"robot", "stranger"}


def told(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error_code")


@pytest.fixture
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is asked for exists."""

    async def require(*_: Any) -> None: ...

    monkeypatch.setattr(Registry, "require", require)


@pytest.mark.parametrize(
    ("method", "path", "sent", "allowed"),
    [
        pytest.param("GET", "list", {}, MANAGERS | WRITERS | READERS, id="listing secrets takes READ"),
        pytest.param("POST", "put", {"key": "new", "string_value": CANARY}, MANAGERS | WRITERS, id="putting a secret takes WRITE"),
        pytest.param("POST", "delete", {"key": "k"}, MANAGERS | WRITERS, id="deleting a secret takes WRITE"),
        pytest.param("POST", "acls/put", {"principal": "eve", "permission": "READ"}, MANAGERS, id="putting an entry takes MANAGE"),
        pytest.param("POST", "acls/delete", {"principal": "viewer"}, MANAGERS, id="deleting an entry takes MANAGE"),
        pytest.param("GET", "acls/list", {}, MANAGERS, id="listing entries takes MANAGE"),
        pytest.param("GET", "acls/get", {"principal": "viewer"}, MANAGERS, id="reading an entry takes MANAGE"),
        pytest.param("POST", "scopes/delete", {}, MANAGERS, id="deleting a scope takes MANAGE"),
    ],
)
async def test_each_role_on_each_route(method: str, path: str, sent: dict[str, str], allowed: set[str], tmp_path: Path) -> None:
    for who in MANAGERS | WRITERS | READERS | OTHERS:
        async with called_by(who, tmp_path, WITH_SCOPE) as http:
            own, absent = [await call(http, method, path, {"scope": scope, **sent}) for scope in ("prod", "none")]
        assert told(absent) == ABSENT
        if who in OTHERS:
            assert own.text.replace("prod", "none") == absent.text, "one that may not be seen is as one that is absent"
        else:
            assert told(own) == (OK if who in allowed else DENIED), who
        assert CANARY not in own.text + absent.text


async def call(http: httpx.AsyncClient, method: str, path: str, sent: dict[str, Any]) -> httpx.Response:
    if method == "GET":
        return await http.get(f"{API}/{path}", params=sent)
    return await http.post(f"{API}/{path}", json=sent)


async def test_a_scope_is_its_creators_and_shown_to_those_who_may_read_it(tmp_path: Path) -> None:
    async with called_by("stranger", tmp_path, WITH_SCOPE) as http:
        assert (await http.post(f"{API}/scopes/create", json={"scope": "my.scope"})).json() == {}
        assert told(await http.post(f"{API}/scopes/create", json={"scope": "prod"})) == (409, "RESOURCE_ALREADY_EXISTS")
        shared = {"scope": "ours", "initial_manage_principal": "users", "scope_backend_type": "DATABRICKS"}
        assert (await http.post(f"{API}/scopes/create", json=shared)).json() == {}
        listed = (await http.get(f"{API}/scopes/list")).json()
        assert listed == {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in ("my.scope", "ours")]}
        acls = [(await http.get(f"{API}/acls/list", params={"scope": scope})).json()["items"] for scope in ("my.scope", "ours")]
        assert acls == [[{"principal": who, "permission": "MANAGE"}] for who in ("stranger", "users")]


async def test_secrets_and_entries_come_change_and_go(tmp_path: Path) -> None:
    async with called_by("ada", tmp_path, WITH_SCOPE) as http:
        for value in ({"string_value": "one"}, {"bytes_value": b64encode("zwei é".encode()).decode()}, {"string_value": ""}):
            assert (await http.post(f"{API}/put", json={"scope": "prod", "key": "new", **value})).json() == {}
        secrets = (await http.get(f"{API}/list", params={"scope": "prod"})).json()["secrets"]
        assert [(secret["key"], type(secret["last_updated_timestamp"])) for secret in secrets] == [("k", int), ("new", int)]
        eve = {"scope": "prod", "principal": "eve"}
        assert (await http.post(f"{API}/acls/put", json={**eve, "permission": "WRITE"})).json() == {}
        assert (await http.get(f"{API}/acls/get", params=eve)).json() == {"principal": "eve", "permission": "WRITE"}
        assert (await http.post(f"{API}/acls/delete", json=eve)).json() == {}
        assert told(await http.get(f"{API}/acls/get", params=eve)) == ABSENT
        assert told(await http.post(f"{API}/acls/delete", json=eve)) == ABSENT
        assert (await http.post(f"{API}/delete", json={"scope": "prod", "key": "new"})).json() == {}
        assert told(await http.post(f"{API}/delete", json={"scope": "prod", "key": "new"})) == ABSENT


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        pytest.param("scopes/create", {"scope": "a b"}, id="a space in a name"),
        pytest.param("scopes/create", {"scope": "a" * 129}, id="a long name"),
        pytest.param("scopes/create", {"scope": "a", "scope_backend_type": "AZURE_KEYVAULT"}, id="another keeper"),
        pytest.param("scopes/create", {"scope": "a", "initial_manage_principal": "ada"}, id="a manager that is not everybody"),
        pytest.param("put", {"key": "k"}, id="no value"),
        pytest.param("put", {"key": "k", "string_value": CANARY, "bytes_value": CANARY}, id="two values"),
        pytest.param("put", {"key": "k", "string_value": [CANARY]}, id="a list"),
        pytest.param("put", {"key": "k", "string_value": f"{CANARY}\0"}, id="a NUL"),
        pytest.param("put", {"key": "k", "bytes_value": CANARY}, id="bytes that are not base64"),
        pytest.param("put", {"key": "k", "bytes_value": b64encode(b"\xff").decode()}, id="bytes that are no text"),
        pytest.param("put", {"key": "k", "string_value": "é" * 64 * 1024 + "a"}, id="over 128 KB"),
        pytest.param("put", {"key": "a/b", "string_value": CANARY}, id="a slash in a key"),
        pytest.param("acls/put", {"principal": "eve", "permission": "CAN_READ"}, id="a permission of another object"),
        pytest.param("acls/put", {"principal": "", "permission": "READ"}, id="nobody"),
    ],
)
async def test_what_is_refused_says_why_without_the_value(path: str, sent: dict[str, Any], tmp_path: Path) -> None:
    async with called_by("ada", tmp_path, WITH_SCOPE) as http:
        refused = await http.post(f"{API}/{path}", json={"scope": "prod", **sent})
    assert told(refused) == INVALID
    assert CANARY not in refused.text


async def test_values_are_told_to_nobody(tmp_path: Path) -> None:
    async with called_by("admin", tmp_path, WITH_SCOPE) as http:
        refused = await http.get(f"{API}/get", params={"scope": "prod", "key": "k"})
    assert told(refused) == (400, "BAD_REQUEST")


async def test_there_are_bounds_to_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_scopes, "MAX_SCOPES", 1)
    monkeypatch.setattr(secret_scopes, "MAX_SECRETS", 1)
    async with called_by("ada", tmp_path, WITH_SCOPE) as http:
        assert told(await http.post(f"{API}/scopes/create", json={"scope": "a"})) == (400, "RESOURCE_LIMIT_EXCEEDED")
        over = {"scope": "prod", "key": "l", "string_value": "x"}
        assert told(await http.post(f"{API}/put", json=over)) == (400, "RESOURCE_LIMIT_EXCEEDED")
        assert told(await http.post(f"{API}/put", json=over | {"key": "k"})) == OK, "one that is there may change"


def referring(reference: str) -> dict[str, Any]:
    entity = {"entity_name": "churn", "entity_version": "1", "name": "a", "environment_vars": {"PASSWORD": reference}}
    return {"served_entities": [entity]}


@pytest.mark.parametrize(
    ("who", "reference", "known"),
    [
        pytest.param("viewer", "{{secrets/prod/k}}", True, id="who may read it may refer to it"),
        pytest.param("stranger", "{{secrets/prod/k}}", False, id="who may not see the scope"),
        pytest.param("viewer", "{{secrets/prod/none}}", False, id="no such secret"),
        pytest.param("viewer", "{{secrets/none/k}}", False, id="no such scope"),
    ],
)
@pytest.mark.usefixtures("any_model")
async def test_a_reference_takes_the_right_to_read_the_scope(who: str, reference: str, known: bool, tmp_path: Path) -> None:
    async with called_by(who, tmp_path, WITH_SCOPE) as http:
        created = await http.post(ENDPOINTS, json={"name": "new", "config": referring(reference)})
    if known:
        assert created.json()["pending_config"]["served_entities"][0]["environment_vars"] == {"PASSWORD": reference}
        assert "sealed-k" not in created.text
    else:
        assert told(created) == INVALID
        assert f"'PASSWORD' refers to '{reference}', but there is no such secret that you may read." in created.json()["message"]


@pytest.mark.usefixtures("any_model")
async def test_the_pool_gets_the_value_as_of_the_update_and_a_new_one_by_another_update(tmp_path: Path) -> None:
    log, box = FoldingLog(WITH_SCOPE), SecretBox.from_file(tmp_path / "secret.key")
    app = app_over(log, Registry("http://127.0.0.1:1"), tmp_path)

    async def updated() -> ServedEntity:
        assert (await http.put(f"{ENDPOINTS}/churn/config", json=referring("{{secrets/prod/k}}"))).status_code == 200
        endpoint = log.snapshot().endpoint("churn")
        if endpoint.pending:  # else nothing had to be deployed
            await log.publish(ready("a", endpoint.latest_version))
        active = log.snapshot().endpoint("churn").active
        assert active is not None
        return active.entities["a"]

    async def put(value: str) -> None:
        assert (await http.post(f"{API}/put", json={"scope": "prod", "key": "k", "string_value": value})).status_code == 200

    headers = {"Authorization": "Bearer ada"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://penstock", headers=headers) as http:
        await put("old")
        first, again = await updated(), await updated()
        await put("new")
        after = await updated()
        await http.post(f"{API}/scopes/delete", json={"scope": "prod"})
        assert log.snapshot().endpoint("churn").active, "what is deployed stays so"
    assert [box.open(entity.spec.environment_vars["PASSWORD"]) for entity in (first, again, after)] == ["old", "old", "new"]
    assert first.pool_id == again.pool_id != after.pool_id
