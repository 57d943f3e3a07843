"""`Prefer: respond-async` and `Idempotency-Key` over HTTP, over two ingress processes."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable

from tests.e2e.conftest import Deployed, Models, Stack, eventually

SLOW = {"dataframe_records": [{"x": 1.0}], "params": {"sleep_s": 1.0}}


def test_a_job_instead_of_a_long_wait_and_a_retry_that_is_scored_once(
    stack: Stack, deploy: Callable[..., Deployed], models: Models
) -> None:
    endpoint = deploy()
    with stack.client() as client:
        path = f"/serving-endpoints/{endpoint.name}/invocations"
        taken = client.post(path, json=SLOW, headers={"Prefer": "respond-async"})
        assert (taken.status_code, taken.headers["preference-applied"], taken.json()["state"]) == (202, "respond-async", "PENDING")
        place = taken.headers["location"]
        assert client.get(place).status_code == 202

        def answer() -> Any:
            found = client.get(place)
            return found if found.status_code != 202 else None

        found = asyncio.run(eventually(answer))
        assert (found.status_code, found.json()) == (200, {"predictions": [2.0]})
        assert found.headers["served-model-name"] == f"{models.name}-{models.double}"
        eve = stack.penstock("token", "create", "eve@example.org").stdout.strip()
        client.patch(
            f"/api/2.0/permissions/serving-endpoints/{endpoint.id}",
            json={"access_control_list": [{"user_name": "eve@example.org", "permission_level": "CAN_QUERY"}]},
        )
        stranger = httpx.get(f"{stack.host}{place}", headers={"Authorization": f"Bearer {eve}"}, trust_env=False)
        assert (stranger.status_code, stranger.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")

        keyed = {"Idempotency-Key": "order-17"}
        with pytest.raises(httpx.ReadTimeout):
            client.post(path, json=SLOW, headers=keyed, timeout=0.5)
        retried = client.post(path, json=SLOW, headers=keyed)
        assert (retried.json(), retried.headers["idempotency-replayed"]) == ({"predictions": [2.0]}, "true")
        other = client.post(path, json={"dataframe_records": [{"x": 2.0}]}, headers=keyed)
        assert (other.status_code, other.json()["error_code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    ids = {taken.headers["x-request-id"], retried.headers["x-request-id"]}
    rows = asyncio.run(eventually(lambda: _rows(endpoint)))
    assert {row["databricks_request_id"]: row["status_code"] for row in rows} == dict.fromkeys(ids, 200)


def _rows(endpoint: Deployed) -> list[dict[str, Any]] | None:
    if not DeltaTable.is_deltatable(str(endpoint.table)):
        return None
    rows: list[dict[str, Any]] = DeltaTable(endpoint.table).to_pyarrow_table().to_pylist()
    return rows if len(rows) >= 2 else None
