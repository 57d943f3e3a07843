"""Who may do what, over HTTP and without a broker: each role on each route about an endpoint, and the permissions themselves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress.identity import Callers, Queriers, identify
from services.ingress.management import ENDPOINTS
from services.ingress.permissions import parse_grants
from services.ingress.registry import Registry
from services.shared.control_events import EndpointDeleted
from services.shared.endpoints import ControlState
from services.shared.errors import EndpointNotFound, ParameterInvalid, PermissionDenied, Unauthenticated
from services.shared.rights import Level
from tests.unit.ingress.callers import GRANTS, LEVELS, STATE, TOKENS, token
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.ingress.routes_app import app_over
from tests.unit.shared.control_log import config, created, fold, ready

PERMISSIONS = "/api/2.0/permissions/serving-endpoints"


@asynccontextmanager
async def called_by(who: str, folder: Path, state: ControlState = STATE) -> AsyncIterator[httpx.AsyncClient]:
    registry = Registry("http://127.0.0.1:1")
    app = app_over(FoldingLog(state), registry, folder)
    transport, headers = httpx.ASGITransport(app), {"Authorization": f"Bearer {who}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock", headers=headers) as client:
        yield client
    await registry.close()


def routes_about_one(folder: Path) -> Iterator[tuple[str, str]]:
    app = app_over(FoldingLog(STATE), Registry("http://127.0.0.1:1"), folder)
    for path, methods in app.openapi()["paths"].items():
        if ("{name}" in path or "{endpoint_id}" in path) and not ("{batch_id}" in path or "{invocation_id}" in path):
            yield from ((method.upper(), path) for method in methods)


@pytest.mark.parametrize("who", LEVELS)
async def test_each_role_on_each_route(who: str, tmp_path: Path) -> None:
    routes, level = list(routes_about_one(tmp_path)), LEVELS[who]
    assert len(routes) > 15
    changes = level is Level.CAN_MANAGE  # what was asked before would be felt
    async with called_by(who, tmp_path) as shared:
        for method, path in routes:
            needed = Level.CAN_QUERY if path.endswith("/batches") else Level.CAN_VIEW if method == "GET" else Level.CAN_MANAGE
            async with called_by(who, tmp_path) if changes else nullcontext(shared) as http:
                own = await http.request(method, path.format(name="churn", endpoint_id="e1", served="a"), json={})
                absent = await http.request(method, path.format(name="nobody", endpoint_id="nobody", served="a"), json={})
            assert absent.status_code == 404, (method, path)
            if level is None:
                told = own.text.replace("'churn'", "'nobody'").replace("'e1'", "'nobody'")
                assert (own.status_code, told) == (404, absent.text), (method, path)
            elif level < needed:
                assert (own.status_code, own.json()["error_code"]) == (403, "PERMISSION_DENIED"), (method, path)
            else:
                assert own.status_code not in (401, 403, 404, 500), (method, path, own.text)


async def test_the_list_shows_what_one_may_see_and_get_says_how_far_one_may_go(tmp_path: Path) -> None:
    for who, level in LEVELS.items():
        async with called_by(who, tmp_path) as http:
            listed = (await http.get(ENDPOINTS)).json()["endpoints"]
            got = (await http.get(f"{ENDPOINTS}/churn")).json()
        assert [endpoint["name"] for endpoint in listed] == (["churn"] if level else [])
        assert got.get("permission_level") == (level.name if level else None)


async def test_what_was_put_is_what_is_read_and_a_patch_changes_those_it_names(tmp_path: Path) -> None:
    entry = {"user_name": "ada", "permission_level": "CAN_MANAGE"}
    more = [{"group_name": "team", "permission_level": "CAN_VIEW"}, {"user_name": "ada", "permission_level": "CAN_QUERY"}]
    async with called_by("manager", tmp_path) as http:
        put = await http.put(f"{PERMISSIONS}/e1", json={"access_control_list": [entry]})
        assert put.json()["access_control_list"] == [
            {"user_name": "ada", "display_name": "ada", "all_permissions": [{"permission_level": "CAN_MANAGE", "inherited": False}]}
        ]
        assert (await http.get(f"{PERMISSIONS}/e1")).status_code == 404, "who takes their own right away has none"
    async with called_by("ada", tmp_path) as http:
        await http.put(f"{PERMISSIONS}/e1", json={"access_control_list": [entry]})
        await http.patch(f"{PERMISSIONS}/e1", json={"access_control_list": more})
        read = (await http.get(f"{PERMISSIONS}/e1")).json()
        levels = [entry["all_permissions"][0]["permission_level"] for entry in read["access_control_list"]]
        assert (read["object_id"], levels) == ("/serving-endpoints/e1", ["CAN_QUERY", "CAN_VIEW"])
        known = (await http.get(f"{PERMISSIONS}/e1/permissionLevels")).json()["permission_levels"]
        assert [level["permission_level"] for level in known] == ["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param([{"permission_level": "CAN_VIEW"}], "Each entry names one of", id="nobody"),
        pytest.param([{"user_name": "a", "group_name": "b", "permission_level": "CAN_VIEW"}], "Each entry names one of", id="two"),
        pytest.param([{"user_name": "a", "permission_level": "CAN_RUN"}], "permission_level", id="a level of another object"),
        pytest.param([{"user_name": "", "permission_level": "CAN_VIEW"}], "user_name", id="an empty name"),
        pytest.param([{"user_name": "a", "permission_level": "CAN_VIEW"}] * 2, "'a' more than once", id="the same twice"),
    ],
)
def test_entries_that_are_refused(entries: list[dict[str, str]], message: str) -> None:
    with pytest.raises(ParameterInvalid, match=message):
        parse_grants({"access_control_list": entries})


def test_queries_take_can_query() -> None:
    queriers = Queriers()
    for _ in range(2):  # asked for, and remembered
        for who, level in LEVELS.items():
            if level is None:
                with pytest.raises(EndpointNotFound):
                    queriers.require(TOKENS[who], "churn", STATE)
            elif level < Level.CAN_QUERY:
                with pytest.raises(PermissionDenied):
                    queriers.require(TOKENS[who], "churn", STATE)
            else:
                queriers.require(TOKENS[who], "churn", STATE)


def test_a_right_that_is_taken_away_is_gone_with_the_next_snapshot() -> None:
    queriers, changed = Queriers(), fold(None, state=STATE)
    queriers.require(TOKENS["querier"], "churn", STATE)
    without = {**changed.endpoints, "churn": STATE.endpoints["churn"].__class__(**_fields(grants=GRANTS[:1]))}
    with pytest.raises(EndpointNotFound):
        queriers.require(TOKENS["querier"], "churn", ControlState(endpoints=without, tokens=STATE.tokens, groups=STATE.groups))


def _fields(**changed: Any) -> dict[str, Any]:
    endpoint = STATE.endpoints["churn"]
    return {name: getattr(endpoint, name) for name in endpoint.__dataclass_fields__} | changed


def test_a_token_ends_at_its_time() -> None:
    state, callers = fold(token("late", expires_ms=1), token("soon", expires_ms=2**50)), Callers()
    assert callers.identify("Bearer soon", state).principal == "soon"
    for ask in (identify, callers.identify):
        with pytest.raises(Unauthenticated):
            ask("Bearer late", state)


class SwiftLog(FoldingLog):
    """Between the guard's look and the handler's, the endpoint is deleted and bob makes one of the same name."""

    looks = 0

    async def refresh(self) -> ControlState:
        self.looks += 1
        if self.looks == 2:
            of_bob = created(config("1"), endpoint_id="e2").model_copy(update={"creator": "bob"})
            self._state = fold(EndpointDeleted(endpoint_id="e1", at_ms=8), of_bob, ready("a", endpoint_id="e2"), state=self._state)
        return self._state


async def test_a_right_on_an_endpoint_is_none_on_the_next_of_that_name(tmp_path: Path) -> None:
    registry = Registry("http://127.0.0.1:1")
    for method, path in [(method, path) for method, path in routes_about_one(tmp_path) if "{name}" in path]:
        log = SwiftLog(STATE)
        app, headers = app_over(log, registry, tmp_path), {"Authorization": "Bearer ada"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://penstock", headers=headers) as http:
            answer = await http.request(method, path.format(name="churn", served="a"), json={})
        assert answer.status_code in (400, 404), (method, path, answer.text)
        untouched = fold(created(config("1"), endpoint_id="e2"), ready("a", endpoint_id="e2")).endpoints["churn"]
        if log.looks > 1:
            assert replace(log.snapshot().endpoints["churn"], creator="ada", grants=untouched.grants) == untouched, (method, path)
    await registry.close()
