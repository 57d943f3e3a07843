"""Limits through two ingress processes."""

from collections.abc import Callable, Iterator
from itertools import count

import httpx
import pytest

from tests.e2e.conftest import Deployed, Models, Stack, eventually

CALLS = 8
BODY = {"inputs": {"x": [1.0]}}
PROCESSES = 2


@pytest.fixture
def connections(stack: Stack) -> Iterator[list[httpx.Client]]:
    """Many, so that both processes get some."""
    clients = [stack.client() for _ in range(6)]
    yield clients
    for client in clients:
        client.close()


async def test_an_endpoints_callers_are_held_to_its_rate_limit(
    stack: Stack, deploy: Callable[..., Deployed], connections: list[httpx.Client]
) -> None:
    endpoint = deploy()
    turn = count()

    def call() -> httpx.Response:
        return connections[next(turn) % len(connections)].post(endpoint.invocations, json=BODY)

    limit = {"calls": CALLS, "key": "user", "renewal_period": "minute"}
    path = f"/api/2.0/serving-endpoints/{endpoint.name}/rate-limits"
    with stack.client() as client:
        put = client.put(path, json={"rate_limits": [limit]})
        assert (put.status_code, put.json()) == (200, {"rate_limits": [limit]})
        assert client.get(f"/api/2.0/serving-endpoints/{endpoint.name}").json()["ai_gateway"]["rate_limits"] == [limit]

        answers = [call() for _ in range(PROCESSES * CALLS + 2)]  # a new minute may begin meanwhile, for once
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert {answer.status_code for answer in answers} == {200, 429}
        assert {answer.json()["error_code"] for answer in refused} == {"REQUEST_LIMIT_EXCEEDED"}
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)

        assert client.put(path, json={"rate_limits": []}).json() == {"rate_limits": []}
        await eventually(lambda: {call().status_code for _ in connections} == {200}, 10)


def test_what_would_exceed_the_quota_is_refused_and_leaves_nothing(stack: Stack, deploy: Callable[..., Deployed], models: Models) -> None:
    deploy()
    entity = {
        "entity_name": models.name,
        "entity_version": models.double,
        "min_provisioned_concurrency": 4,
        "max_provisioned_concurrency": 200,
    }
    with stack.client() as client:
        refused = client.post("/api/2.0/serving-endpoints", json={"name": "too-much", "config": {"served_entities": [entity]}})
        assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert refused.json()["message"].startswith("Workspace exceeded provisioned concurrency quota: ")
        assert client.get("/api/2.0/serving-endpoints/too-much").status_code == 404


async def test_metrics_are_the_same_whichever_process_is_asked(deploy: Callable[..., Deployed], connections: list[httpx.Client]) -> None:
    endpoint = deploy()
    calls = 2 * len(connections)
    for n in range(calls):
        assert connections[n % len(connections)].post(endpoint.invocations, json=BODY).status_code == 200
    mine = f'{{endpoint_name="{endpoint.name}",served_entity="'
    wanted = {"request_latency_ms_count": calls, "model_prediction_latency_ms_count": calls, "request_count_total": calls}

    def agreed() -> bool:
        texts = [client.get(f"/api/2.0/serving-endpoints/{endpoint.name}/metrics").text for client in connections]
        return all(wanted.items() <= _samples(text, mine).items() for text in texts)

    await eventually(agreed, 10)
    own = connections[0].get("/metrics")
    assert (own.status_code, own.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert _samples(own.text, mine)["penstock_requests_total"] == calls


def test_health_needs_no_token_and_metrics_do(stack: Stack) -> None:
    with httpx.Client(base_url=stack.host) as stranger:
        assert [stranger.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")] == [200, 200, 401]


def _samples(text: str, labels: str) -> dict[str, float]:
    """The value of each metric whose first labels are these; of a histogram's buckets the last."""
    lines = [line for line in text.splitlines() if labels in line]
    return {line.partition("{")[0]: float(line.partition("} ")[2].split()[0]) for line in lines}
