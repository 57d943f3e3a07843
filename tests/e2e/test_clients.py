"""Unmodified clients against a running stack: databricks-sdk, mlflow.deployments and plain HTTP."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, OperationFailed, PermissionDenied, ResourceAlreadyExists, ResourceConflict, Unauthenticated
from databricks.sdk.service.serving import (
    DataframeSplitInput,
    EmailNotifications,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    Route,
    ServedEntityInput,
    ServingEndpointAccessControlRequest,
    ServingEndpointDetailedPermissionLevel,
    ServingEndpointPermissionLevel,
    TelemetryConfig,
    TelemetryInferenceTableConfig,
    TrafficConfig,
)
from databricks.sdk.service.sql import (
    Disposition,
    Format,
    StatementParameterListItem,
    StatementResponse,
    StatementState,
    StatementStatus,
)
from mlflow.deployments import get_deploy_client

from tests.e2e.conftest import Deployed, Models, Stack, wait_for_update

Deploy = Callable[..., Deployed]
SPLIT = {"dataframe_split": {"columns": ["x"], "data": [[1.0], [2.5]]}}


@pytest.fixture
def workspace(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> WorkspaceClient:
    """The SDK with nothing but `DATABRICKS_CONFIG_FILE`."""
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", stack.config_file)
    return WorkspaceClient()


def test_the_sdk_creates_queries_updates_and_deletes(workspace: WorkspaceClient, stack: Stack, models: Models) -> None:
    api = workspace.serving_endpoints
    name = "sdk-life"
    double = ServedEntityInput(
        name="two", entity_name=models.name, entity_version=models.double, workload_size="Small", scale_to_zero_enabled=False
    )
    triple = ServedEntityInput(
        name="three", entity_name=models.name, entity_version=models.triple, workload_size="Small", scale_to_zero_enabled=False
    )
    try:
        made = api.create_and_wait(
            name, config=EndpointCoreConfigInput(name=name, served_entities=[double]), tags=[EndpointTag("team", "core")]
        )
        assert made.state is not None
        assert (made.state.ready, made.state.config_update) == (EndpointStateReady.READY, EndpointStateConfigUpdate.NOT_UPDATING)
        assert made.config is not None
        assert made.config.config_version == 1
        assert made.tags == [EndpointTag("team", "core")]
        answer = api.query(name, dataframe_split=DataframeSplitInput(columns=["x"], data=[[1.0], [2.5]]))
        assert (answer.predictions, answer.served_model_name) == ([2.0, 5.0], "two")
        with pytest.raises(ResourceAlreadyExists):
            api.create(name, config=EndpointCoreConfigInput(name=name, served_entities=[double]))

        routes = [Route(served_entity_name="two", traffic_percentage=0), Route(served_entity_name="three", traffic_percentage=100)]
        api.update_config(name, served_entities=[double, triple], traffic_config=TrafficConfig(routes=routes))
        with pytest.raises(ResourceConflict):
            api.update_config(name, served_entities=[triple])
        updated = api.wait_get_serving_endpoint_not_updating(name)
        assert updated.config is not None
        assert updated.config.config_version == 2
        assert updated.pending_config is None
        assert [e.name for e in updated.config.served_entities or []] == ["two", "three"]
        assert api.query(name, dataframe_records=[{"x": 1.0}]).predictions == [3.0]
        assert name in {e.name for e in api.list()}
        changed = api.patch(name, add_tags=[EndpointTag("tier", "1"), EndpointTag("team", "ml")]).tags
        assert changed == [EndpointTag("team", "ml"), EndpointTag("tier", "1")]
        assert api.patch(name, delete_tags=["tier"]).tags == api.get(name).tags == [EndpointTag("team", "ml")]
        assert "The model is loaded." in (api.build_logs(name, "three").logs or "")
        assert isinstance(api.logs(name, "three").logs, str)
        told = EmailNotifications(on_update_failure=["ops@example.org"])
        assert api.update_notifications(name, email_notifications=told).email_notifications == told
        assert api.get(name).email_notifications == told
        described = api.get_open_api(name).contents
        assert described is not None
        with described:
            document = json.load(described)
        assert document["servers"] == [{"url": f"{stack.host}/serving-endpoints/{name}"}]
        forms = document["paths"]["/served-models/three/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert [form["required"] for form in forms["oneOf"]] == [["dataframe_split"], ["dataframe_records"]]
        with pytest.raises(NotFound, match="no served entity 'four'"):
            api.logs(name, "four")

        api.update_config(name, served_entities=[replace(double, name="never")])
        with stack.client() as http:
            assert http.post(f"/api/2.0/serving-endpoints/{name}/config:cancel").json()["state"]["config_update"] == "UPDATE_CANCELED"
            assert http.post(f"/api/2.0/serving-endpoints/{name}/config:cancel").json()["error_code"] == "RESOURCE_CONFLICT"
        with pytest.raises(OperationFailed):
            api.wait_get_serving_endpoint_not_updating(name)
        assert api.query(name, dataframe_records=[{"x": 1.0}]).predictions == [3.0]
    finally:
        api.delete(name)
    with pytest.raises(NotFound, match=f"Endpoint with name '{name}' does not exist"):
        api.get(name)


def test_a_wrong_token_is_unauthenticated(stack: Stack) -> None:
    with pytest.raises(Unauthenticated):
        list(WorkspaceClient(host=stack.host, token="dapi-wrong").serving_endpoints.list())


def test_the_mlflow_client_creates_predicts_and_deletes(stack: Stack, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", stack.config_file)
    client = get_deploy_client("databricks")
    entity = {"name": "m", "entity_name": models.name, "entity_version": models.double, "workload_size": "Small"}
    client.create_endpoint(name="mlflow-life", config={"name": "mlflow-life", "config": {"served_entities": [entity]}})
    try:
        with stack.client() as http:
            wait_for_update(http, "mlflow-life")
        assert client.predict(endpoint="mlflow-life", inputs=SPLIT)["predictions"] == [2.0, 5.0]
        assert "mlflow-life" in {e["name"] for e in client.list_endpoints()}
        assert client.get_endpoint("mlflow-life")["state"]["ready"] == "READY"
    finally:
        assert client.delete_endpoint("mlflow-life") == {}


FORMS = [
    pytest.param("application/json", json.dumps(SPLIT), [2.0, 5.0], id="dataframe_split"),
    pytest.param("application/json", '{"dataframe_records": [{"x": 1}, {"x": 2.5}]}', [2.0, 5.0], id="dataframe_records"),
    pytest.param("application/json", '{"instances": [{"x": 1}, {"x": 2.5}]}', [2.0, 5.0], id="instances"),
    pytest.param("application/json", '{"inputs": {"x": [1.0, 2.5]}}', [2.0, 5.0], id="inputs"),
    pytest.param("text/csv", "x\n1\n2.5\n", [2.0, 5.0], id="CSV"),
    pytest.param(
        "application/json; charset=utf-8", '{"inputs": {"x": [1]}, "params": {"offset": 0.5}}', [2.5], id="params reach the model"
    ),
    pytest.param(
        "application/json", '{"inputs": {"x": [1]}, "client_request_id": "mine"}', [2.0], id="client_request_id is not given to the model"
    ),
]


@pytest.fixture(scope="module")
def served(stack: Stack, models: Models) -> Any:
    """One endpoint for all the tables below."""
    body = {"name": "forms", "config": {"served_entities": [{"name": "two", "entity_name": models.name, "entity_version": models.double}]}}
    with stack.client() as client:
        assert client.post("/api/2.0/serving-endpoints", json=body).status_code == 200
        wait_for_update(client, "forms")
        yield client
        client.delete("/api/2.0/serving-endpoints/forms")


@pytest.mark.parametrize(("content_type", "body", "predictions"), FORMS)
def test_every_input_form_is_scored(served: httpx.Client, content_type: str, body: str, predictions: list[float]) -> None:
    answer = served.post("/serving-endpoints/forms/invocations", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": predictions}
    assert answer.headers["served-model-name"] == "two"


def test_a_served_model_is_scored_by_its_own_path(served: httpx.Client) -> None:
    assert served.post("/serving-endpoints/forms/served-models/two/invocations", json=SPLIT).json() == {"predictions": [2.0, 5.0]}


def test_the_api_path_scores_as_well(served: httpx.Client) -> None:
    assert served.post("/api/2.0/serving-endpoints/forms/invocations", json=SPLIT).json() == {"predictions": [2.0, 5.0]}


def test_basic_authentication_is_accepted(served: httpx.Client, stack: Stack) -> None:
    answer = httpx.get(f"{stack.host}/api/2.0/serving-endpoints/forms", auth=("token", stack.token))
    assert answer.json()["name"] == "forms"


@pytest.mark.usefixtures("served")
def test_others_see_and_do_what_they_were_given_until_their_token_is_revoked(workspace: WorkspaceClient, stack: Stack) -> None:
    made = stack.penstock("token", "create", "eve@example.org", "--expires-in", "1h", "--comment", "the rights test")
    eve = WorkspaceClient(host=stack.host, token=made.stdout.strip())
    own, api = eve.serving_endpoints, workspace.serving_endpoints
    endpoint_id = api.get("forms").id or ""
    assert (eve.current_user.me().user_name, list(own.list())) == ("eve@example.org", [])
    with pytest.raises(NotFound, match="Endpoint with name 'forms' does not exist"):
        own.query("forms", dataframe_records=[{"x": 1.0}])
    assert stack.penstock("group", "set", "readers", "eve@example.org", "bob@example.org").returncode == 0
    readers = ServingEndpointAccessControlRequest(group_name="readers", permission_level=ServingEndpointPermissionLevel.CAN_VIEW)
    api.update_permissions(endpoint_id, access_control_list=[readers])
    assert own.get("forms").permission_level is ServingEndpointDetailedPermissionLevel.CAN_VIEW
    with pytest.raises(PermissionDenied, match="this needs CAN_QUERY"):
        own.query("forms", dataframe_records=[{"x": 1.0}])
    with pytest.raises(PermissionDenied, match="this needs CAN_MANAGE"):
        own.delete("forms")
    hers = ServingEndpointAccessControlRequest(user_name="eve@example.org", permission_level=ServingEndpointPermissionLevel.CAN_QUERY)
    listed = api.set_permissions(endpoint_id, access_control_list=[hers]).access_control_list or []
    assert [entry.user_name for entry in listed] == ["eve@example.org"]
    assert own.query("forms", dataframe_records=[{"x": 1.0}]).predictions == [2.0]
    assert [entry.name for entry in own.list()] == ["forms"]

    known = json.loads(stack.penstock("token", "list", "--json").stdout)
    token_id = next(token["token_id"] for token in known if token["principal"] == "eve@example.org")
    assert token_id in stack.penstock("token", "list").stdout
    assert stack.penstock("token", "revoke", token_id).returncode == 0
    revoked, deadline = {"Authorization": f"Bearer {made.stdout.strip()}"}, time.monotonic() + 5
    while httpx.post(f"{stack.host}/serving-endpoints/forms/invocations", json=SPLIT, headers=revoked).status_code != 401:
        assert time.monotonic() < deadline, "a revoked token ends within 5 s"


INVOKE = "/serving-endpoints/forms/invocations"
JSON = {"Content-Type": "application/json"}
ERRORS = [
    pytest.param("GET", "/api/2.0/nothing-here", b"", {}, 404, "ENDPOINT_NOT_FOUND", id="unknown route"),
    pytest.param("PATCH", "/api/2.0/serving-endpoints/forms", b"", {}, 405, "METHOD_NOT_ALLOWED", id="unknown method"),
    pytest.param("GET", INVOKE, b"", {}, 405, "METHOD_NOT_ALLOWED", id="GET on invocations"),
    pytest.param("GET", "/api/2.0/serving-endpoints/absent", b"", {}, 404, "RESOURCE_DOES_NOT_EXIST", id="no such endpoint"),
    pytest.param(
        "POST", "/serving-endpoints/absent/invocations", b"{}", JSON, 404, "RESOURCE_DOES_NOT_EXIST", id="scoring no such endpoint"
    ),
    pytest.param(
        "POST",
        "/serving-endpoints/forms/served-models/absent/invocations",
        b"{}",
        JSON,
        404,
        "RESOURCE_DOES_NOT_EXIST",
        id="no such served model",
    ),
    pytest.param("POST", INVOKE, b"{nope", JSON, 400, "BAD_REQUEST", id="scoring invalid JSON"),
    pytest.param("POST", INVOKE, b"[1]", JSON, 400, "BAD_REQUEST", id="scoring a list"),
    pytest.param("POST", INVOKE, b'{"dataframe_records": [{"y": 1}]}', JSON, 400, "INVALID_PARAMETER_VALUE", id="missing column"),
    pytest.param("POST", INVOKE, b'{"dataframe_records": [{"x": "a"}]}', JSON, 400, "BAD_REQUEST", id="wrong type"),
    pytest.param("POST", INVOKE, b'{"dataframe_records": [{"x": -1}]}', JSON, 400, "BAD_REQUEST", id="the model raises"),
    pytest.param("POST", INVOKE, b"<x/>", {"Content-Type": "text/xml"}, 415, "UNSUPPORTED_MEDIA_TYPE", id="unknown media type"),
    pytest.param("POST", INVOKE, b"{}", {}, 415, "UNSUPPORTED_MEDIA_TYPE", id="no media type"),
    pytest.param("POST", INVOKE, b"x" * (16 * 1024 * 1024 + 1), JSON, 400, "BAD_REQUEST", id="a body over 16 MB"),
    pytest.param("POST", "/api/2.0/serving-endpoints", b"{nope", JSON, 400, "BAD_REQUEST", id="creating with invalid JSON"),
    pytest.param(
        "POST", "/api/2.0/serving-endpoints", b'{"name": "a b"}', JSON, 400, "INVALID_PARAMETER_VALUE", id="creating with a bad name"
    ),
    pytest.param("PUT", "/api/2.0/serving-endpoints/forms/config", b"{}", JSON, 400, "INVALID_PARAMETER_VALUE", id="updating to nothing"),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "code"), ERRORS)
def test_every_error_comes_in_the_envelope(
    served: httpx.Client, method: str, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = served.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
    assert answer.json()["message"]


def test_the_host_probe_needs_no_token(stack: Stack) -> None:
    found = httpx.get(f"{stack.host}/.well-known/databricks-config")
    assert found.status_code == 200
    assert found.json()["oidc_endpoint"] == f"{stack.host}/oidc"


def test_a_model_version_that_does_not_exist_is_refused_at_once(stack: Stack, models: Models) -> None:
    body = {"name": "typo", "config": {"served_entities": [{"entity_name": models.name, "entity_version": "99"}]}}
    with stack.client() as client:
        answer = client.post("/api/2.0/serving-endpoints", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_share_of_the_requests_is_logged(stack: Stack, workspace: WorkspaceClient, deploy: Deploy) -> None:
    endpoint = deploy()
    half = TelemetryConfig(inference_table_config=TelemetryInferenceTableConfig(sampling_fraction=0.5))
    shown = workspace.serving_endpoints.patch_telemetry_config(endpoint.name, telemetry_config=half).telemetry_config
    assert shown
    assert shown.inference_table_config == TelemetryInferenceTableConfig(f"main.e2e.{endpoint.name}_payload", 0.5)
    with stack.client() as client:
        for number in range(60):
            client.post(endpoint.invocations, json=SPLIT | {"client_request_id": f"half-{number}"}).raise_for_status()
        assert workspace.serving_endpoints.patch_telemetry_config(endpoint.name).telemetry_config is None
        found: list[dict[str, Any]] = []
        while not any(row["id"].startswith("all") for row in found):  # later than the others, so those are there
            client.post(endpoint.invocations, json=SPLIT | {"client_request_id": f"all-{uuid4()}"}).raise_for_status()
            sql = f"select client_request_id as id, sampling_fraction as share from main.e2e.{endpoint.name}_payload"
            found = [json.loads(line) for line in stack.penstock("sql", sql, "--json").stdout.splitlines()]
    logged = [row["share"] for row in found if row["id"].startswith("half")]
    assert 10 < len(logged) < 50
    assert set(logged) == {0.5}


def test_sql_reads_the_inference_table(stack: Stack, workspace: WorkspaceClient, deploy: Deploy) -> None:
    endpoint = deploy()
    with stack.client() as client:
        answer = client.post(endpoint.invocations, json=SPLIT | {"client_request_id": "in-sql"})
        assert answer.status_code == 200
    sql = f"select client_request_id, status_code, response from main.e2e.{endpoint.name}_payload"
    found: list[Any] = []
    while not found:
        done = stack.penstock("sql", sql, "--json")
        found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{"client_request_id": "in-sql", "status_code": 200, "response": answer.text}]
    by_api = stack.penstock("sql", sql, "--json", "--host", stack.host, "--token", stack.token)
    assert by_api.stdout == done.stdout
    refused = stack.penstock("sql", "select 1 from main.e2e.nothing", "--token", stack.token)
    assert (refused.returncode, "There is no table main.e2e.nothing." in refused.stderr) == (1, True)
    told = workspace.statement_execution.execute_statement(
        warehouse_id="any",
        statement=f"{sql} where client_request_id = :id",
        parameters=[StatementParameterListItem("id", type="STRING", value="in-sql")],
        wait_timeout="50s",
    )
    assert told.status
    assert told.result
    assert (told.status.state, told.result.data_array) == (StatementState.SUCCEEDED, [["in-sql", "200", answer.text]])


NUMBERS = "select value, repeat('x', 1000) as text from generate_series(1, 10000) as t(value)"
HEAVY = "select count(*) from generate_series(1, 3000000) a(x), generate_series(1, 3000000) b(y) where (x * y) % 7 = 3"


def ended(workspace: WorkspaceClient, statement_id: str | None) -> StatementResponse:
    assert statement_id
    while True:
        told = workspace.statement_execution.get_statement(statement_id)
        assert told.status
        if told.status.state not in (StatementState.PENDING, StatementState.RUNNING):
            return told


def test_the_sdk_follows_a_statement_to_its_last_chunk(workspace: WorkspaceClient) -> None:
    api = workspace.statement_execution
    done = ended(workspace, api.execute_statement(warehouse_id="any", statement=NUMBERS, wait_timeout="0s").statement_id)
    assert done.status
    assert done.manifest
    assert (done.status.state, done.manifest.total_row_count, done.manifest.total_chunk_count) == (StatementState.SUCCEEDED, 10_000, 3)
    chunks = [api.get_statement_result_chunk_n(str(done.statement_id), index).data_array or [] for index in range(3)]
    assert [int(row[0]) for chunk in chunks for row in chunk] == list(range(1, 10_001))


def test_the_sdk_gets_links_to_arrow_streams(workspace: WorkspaceClient) -> None:
    api, tables = workspace.statement_execution, []
    done = api.execute_statement(
        warehouse_id="any", statement=NUMBERS, disposition=Disposition.EXTERNAL_LINKS, format=Format.ARROW_STREAM, wait_timeout="50s"
    )
    assert done.manifest
    for index in range(done.manifest.total_chunk_count or 0):
        [link] = api.get_statement_result_chunk_n(str(done.statement_id), index).external_links or []
        with pa.ipc.open_stream(httpx.get(str(link.external_link)).raise_for_status().content) as stream:
            tables.append(stream.read_all())
    assert pa.concat_tables(tables)["value"].to_pylist() == list(range(1, 10_001))


def test_the_sdk_cancels_a_statement_whichever_process_runs_it(workspace: WorkspaceClient) -> None:
    api = workspace.statement_execution
    for _ in range(4):
        statement_id = str(api.execute_statement(warehouse_id="any", statement=HEAVY, wait_timeout="0s").statement_id)
        api.cancel_execution(statement_id)
        assert ended(workspace, statement_id).status == StatementStatus(state=StatementState.CANCELED)
    quick = api.execute_statement(warehouse_id="any", statement="select 1", wait_timeout="50s").status
    assert quick == StatementStatus(state=StatementState.SUCCEEDED), "those that were canceled hold no turn"
