"""The management routes over HTTP, without a broker: stop and start, notifications, events, and what is not offered."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress.destinations import Destinations, NotServing
from services.ingress.endpoint_events import parse_limit
from services.ingress.management import ENDPOINTS
from services.ingress.registry import Registry
from services.ingress.unsupported import ROUTES
from services.shared.control_events import EndpointStarted, EndpointStopped, TokenCreated, UpdateCanceled
from services.shared.endpoints import ControlState
from services.shared.errors import ParameterInvalid, PoolNotReady
from services.shared.milestones import KEPT
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.ingress.routes_app import app_over
from tests.unit.shared.control_log import config, created, failed, fold, ready

SERVING = fold(TokenCreated(token_id="t", sha256=sha256(b"secret").hexdigest(), principal="ada", at_ms=1), created(config("1")), ready("a"))
STOPPED = fold(EndpointStopped(endpoint_id="e1", based_on=1, at_ms=5), state=SERVING)
STARTING = fold(EndpointStarted(endpoint_id="e1", based_on=1, at_ms=6), state=STOPPED)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    registry = Registry("http://127.0.0.1:1")
    app = app_over(FoldingLog(SERVING), registry, tmp_path)
    transport, headers = httpx.ASGITransport(app), {"Authorization": "Bearer secret"}
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock", headers=headers) as client:
        yield client
    await registry.close()


def state_of(answer: httpx.Response) -> tuple[str, str]:
    state = answer.json()["state"]
    return state["ready"], state["config_update"]


async def test_stop_and_start(http: httpx.AsyncClient) -> None:
    stopped = await http.post(f"{ENDPOINTS}/churn/config:stop")
    assert (stopped.status_code, state_of(stopped)) == (200, ("NOT_READY", "NOT_UPDATING"))
    shown = stopped.json()["config"]["served_entities"][0]["state"]
    assert shown == {"deployment": "DEPLOYMENT_ABORTED", "deployment_state_message": "The endpoint is stopped."}
    again = await http.post(f"{ENDPOINTS}/churn/config:stop")
    assert (again.status_code, again.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    started = await http.post(f"{ENDPOINTS}/churn/config:start")
    assert (started.status_code, state_of(started)) == (200, ("NOT_READY", "IN_PROGRESS"))
    assert started.json()["pending_config"]["config_version"] == 2
    assert started.json()["config"] == stopped.json()["config"]
    canceled = await http.post(f"{ENDPOINTS}/churn/config:cancel")
    assert state_of(canceled) == ("NOT_READY", "UPDATE_CANCELED")


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        pytest.param(STOPPED, NotServing, "is stopped; start it", id="stopped is a 400"),
        pytest.param(STARTING, PoolNotReady, "is being started", id="starting is a 503"),
        pytest.param(
            fold(UpdateCanceled(endpoint_id="e1", version=2, at_ms=7), state=STARTING), NotServing, "is stopped", id="a canceled start"
        ),
        pytest.param(fold(created(config("1"))), PoolNotReady, "is being created", id="creating is a 503"),
        pytest.param(fold(created(config("1")), failed("a")), NotServing, "creation failed", id="a failed creation is a 400"),
    ],
)
def test_a_query_of_what_does_not_serve(state: ControlState, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Destinations().choose(state, "churn", None, 0.5)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param({"on_update_failure": ["ops@example.org"]}, {"on_update_failure": ["ops@example.org"]}, id="one list"),
        pytest.param(
            {"on_update_success": ["a@x", "b@x"], "on_update_failure": []}, {"on_update_success": ["a@x", "b@x"]}, id="an empty list"
        ),
        pytest.param({}, {}, id="nobody"),
    ],
)
async def test_addresses_to_notify(http: httpx.AsyncClient, sent: dict[str, Any], shown: dict[str, Any]) -> None:
    answer = await http.patch(f"{ENDPOINTS}/churn/notifications", json={"email_notifications": sent})
    assert answer.json() == {"name": "churn", "email_notifications": shown}
    assert (await http.get(f"{ENDPOINTS}/churn")).json()["email_notifications"] == shown


async def test_addresses_are_a_list(http: httpx.AsyncClient) -> None:
    answer = await http.patch(f"{ENDPOINTS}/churn/notifications", json={"email_notifications": {"on_update_failure": "ops"}})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


async def test_the_newest_events_come_first(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{ENDPOINTS}/churn/events", params={"limit": 2})
    assert [event["message"] for event in answer.json()["events"]] == [
        "Config version 1 serves.",
        "Served entity 'a' of config version 1 is ready.",
    ]
    assert answer.json()["events"][0] == {
        "event_type": "ENDPOINT_UPDATE_EVENT",
        "status": "SUCCESS",
        "message": "Config version 1 serves.",
        "timestamp": 3,
    }


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        pytest.param(None, KEPT, id="no limit"),
        pytest.param("7", 7, id="a number"),
        pytest.param("007", 7, id="zeros in front"),
        pytest.param("9" * 5000, KEPT, id="more than there will ever be"),
    ],
)
def test_a_limit(sent: str | None, limit: int) -> None:
    assert parse_limit(sent) == limit


@pytest.mark.parametrize("sent", ["", "0", "-1", "1.5", "٣", "many"])
def test_what_is_no_limit(sent: str) -> None:
    with pytest.raises(ParameterInvalid):
        parse_limit(sent)


@pytest.mark.parametrize(("method", "path", "what"), ROUTES)
async def test_what_is_not_offered_says_so(http: httpx.AsyncClient, method: str, path: str, what: str) -> None:
    answer = await http.request(method, path.format(name="churn"), json={})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert answer.json()["message"] == f"{what} are not supported."


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("POST", f"{ENDPOINTS}/absent/config:stop", 404, "RESOURCE_DOES_NOT_EXIST", id="no such endpoint"),
        pytest.param("GET", f"{ENDPOINTS}/churn/config:stop", 405, "METHOD_NOT_ALLOWED", id="another method"),
        pytest.param("POST", f"{ENDPOINTS}/churn/config:halt", 404, "ENDPOINT_NOT_FOUND", id="no such route"),
        pytest.param("GET", f"{ENDPOINTS}/churn/events?limit=0", 400, "INVALID_PARAMETER_VALUE", id="a limit of nothing"),
        pytest.param("GET", f"{ENDPOINTS}/absent/events", 404, "RESOURCE_DOES_NOT_EXIST", id="events of nobody"),
        pytest.param("PATCH", f"{ENDPOINTS}/churn/notifications", 400, "BAD_REQUEST", id="no body"),
    ],
)
async def test_refusals(http: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
    assert answer.json().keys() == {"error_code", "message", "details"}


@pytest.mark.parametrize("path", [f"{ENDPOINTS}/churn/events", f"{ENDPOINTS}/churn/config:stop", "/api/2.0/external-function"])
async def test_nothing_is_told_without_a_token(http: httpx.AsyncClient, path: str) -> None:
    method = "GET" if path.endswith("events") else "POST"
    answer = await http.request(method, path, headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


async def test_the_old_rate_limits_route_changes_the_gateway(http: httpx.AsyncClient) -> None:
    limits = [{"calls": 5, "key": "user", "renewal_period": "minute"}]
    put = await http.put(f"{ENDPOINTS}/churn/rate-limits", json={"rate_limits": limits})
    assert (put.status_code, put.json()) == (200, {"rate_limits": limits})
    assert (await http.get(f"{ENDPOINTS}/churn")).json()["ai_gateway"] == {"rate_limits": limits}
    assert (await http.put(f"{ENDPOINTS}/churn/rate-limits", json={})).json() == {"rate_limits": []}
    assert "ai_gateway" not in (await http.get(f"{ENDPOINTS}/churn")).json()


async def test_without_a_producer_this_process_is_alive_and_not_ready(http: httpx.AsyncClient) -> None:
    live, ready_answer = await http.get("/health/live"), await http.get("/health/ready")
    assert (live.status_code, ready_answer.status_code, ready_answer.json()["error_code"]) == (200, 503, "TEMPORARILY_UNAVAILABLE")


@pytest.mark.parametrize("path", [f"{ENDPOINTS}/churn/metrics", "/metrics"])
async def test_metrics_that_cannot_be_read_are_no_zeros(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 503


async def test_changes_are_limited_and_reading_is_not(tmp_path: Path) -> None:
    registry = Registry("http://127.0.0.1:1")
    transport, headers = (
        httpx.ASGITransport(app_over(FoldingLog(SERVING), registry, tmp_path, changes=2)),
        {"Authorization": "Bearer secret"},
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock", headers=headers) as client:
        answers = [await client.post(f"{ENDPOINTS}/churn/config:{do}") for do in ("stop", "stop", "start")]
        assert [answer.status_code for answer in answers] == [200, 409, 429]
        assert answers[2].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 300
        assert (await client.get(f"{ENDPOINTS}/churn")).status_code == 200
    await registry.close()


async def test_a_workspace_holds_so_many_endpoints(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingress.management.MAX_ENDPOINTS", 1)
    body = {"name": "more", "config": {"served_entities": [{"entity_name": "churn", "entity_version": "1"}]}}
    refused = await http.post(ENDPOINTS, json=body)
    assert (refused.status_code, refused.json()["message"]) == (400, "The workspace holds 1 endpoints, and may hold no more.")
