"""An endpoint is stopped and started again while the SDK looks on."""

from collections.abc import Callable

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.serving import EndpointStateReady, ServingEndpointDetailed

from tests.e2e.conftest import Deployed, Models, Stack, eventually

Deploy = Callable[..., Deployed]
RECORD = [{"x": 2.0}]


def readiness(found: ServingEndpointDetailed) -> EndpointStateReady | None:
    assert found.state is not None
    return found.state.ready


async def test_a_stopped_endpoint_holds_nothing_and_starts_again(stack: Stack, deploy: Deploy, models: Models) -> None:
    api = WorkspaceClient(host=stack.host, token=stack.token).serving_endpoints
    endpoint = deploy(models.double)
    path = f"/api/2.0/serving-endpoints/{endpoint.name}"
    assert api.query(endpoint.name, dataframe_records=RECORD).predictions == [4.0]
    with stack.client() as http:
        assert http.post(f"{path}/config:stop").json()["state"] == {
            "ready": "NOT_READY",
            "config_update": "NOT_UPDATING",
            "suspend": "NOT_SUSPENDED",
        }
        await eventually(lambda: not stack.pids(f"scorer-{endpoint.id}"), 30)
        with pytest.raises(BadRequest, match="is stopped; start it"):
            api.query(endpoint.name, dataframe_records=RECORD)
        found = api.wait_get_serving_endpoint_not_updating(endpoint.name)
        assert (readiness(found), found.config is not None) == (EndpointStateReady.NOT_READY, True)

        assert http.post(f"{path}/config:start").json()["pending_config"]["config_version"] == 2
        assert readiness(api.wait_get_serving_endpoint_not_updating(endpoint.name)) is EndpointStateReady.READY
        assert api.query(endpoint.name, dataframe_records=RECORD).predictions == [4.0]
        told = messages(http, path, 4)
        assert told[:2] == ["Config version 2 serves.", f"Served entity 'affine-{models.double}' of config version 2 is ready."]
        assert told[2].startswith(f"affine-{models.double}: 0 → 1 replicas (deploying): lag 0")
        assert told[3] == "The endpoint is being started with config version 2."


def messages(http: httpx.Client, path: str, limit: int) -> list[str]:
    return [event["message"] for event in http.get(f"{path}/events", params={"limit": limit}).json()["events"]]
