"""A stack whose tables lie in a bucket: each request is a row there, also of a time in which S3 does not answer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from databricks.sdk import WorkspaceClient

from services.cli.admin_token import read_token
from tests.e2e.conftest import eventually, wait_for_update
from tests.e2e.models import ECHO_SIGNATURE, Echo, register
from tests.e2e.own_stack import OwnStack
from tests.s3_server import BUCKET, S3Server, s3_server

PLACE = f"s3://{BUCKET}/tables"
ENDPOINTS = "/api/2.0/serving-endpoints"
BATCHES = f"{ENDPOINTS}/echo/batches"
TABLE = {"enabled": True, "catalog_name": "main", "schema_name": "e2e"}
ROWS, RESULTS = "main.e2e.echo_payload", "main.e2e.echoed"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


@pytest.fixture
def in_bucket(server: S3Server, tmp_path: Path) -> Iterator[OwnStack]:
    stack = OwnStack(tmp_path, PENSTOCK_TABLES_LOCATION=PLACE, **server.variables)
    refused = stack.run("up", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert refused.returncode == 1
    assert f"PENSTOCK_TABLES_LOCATION: {PLACE} cannot be reached" in refused.stderr
    stack.up()
    yield stack
    stack.down()


async def test_tables_in_a_bucket_hold_each_request_once(in_bucket: OwnStack, server: S3Server) -> None:
    status = in_bucket.status()
    assert status["tables"] == PLACE
    token = read_token(Path(status["config_file"])) or ""
    workspace = WorkspaceClient(host=status["host"], token=token)
    with httpx.Client(base_url=status["host"], headers={"Authorization": f"Bearer {token}"}, timeout=150) as http:
        deploy(http, register(status["mlflow"], "echo", Echo(), ECHO_SIGNATURE))
        ids = [ask(http) for _ in range(5)]
        await eventually(lambda: len(rows(workspace)) == 5)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            ids += [ask(http) for _ in range(5)]
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await eventually(lambda: sorted(rows(workspace)) == sorted(ids))
        batch = submit(http)
        await eventually(lambda: state_of(http, batch) == "SUCCEEDED")
    assert RESULTS in in_bucket.run("tables", "list").stdout
    assert f"{PLACE}/main/e2e/echoed" in in_bucket.run("tables", "describe", RESULTS).stdout
    assert in_bucket.run("sql", f"select count(prediction) as answers from {RESULTS}", "--csv").stdout.split() == ["answers", "2"]
    assert not list(in_bucket.state.glob("tables/*"))


def deploy(http: httpx.Client, version: str) -> None:
    entity = {"entity_name": "echo", "entity_version": version, "workload_size": "Small"}
    body = {"name": "echo", "config": {"served_entities": [entity]}, "ai_gateway": {"inference_table_config": TABLE}}
    created = http.post(ENDPOINTS, json=body)
    assert created.status_code == 200, created.text
    wait_for_update(http, "echo")


def ask(http: httpx.Client) -> str:
    answer = http.post("/serving-endpoints/echo/invocations", json={"inputs": {"text": ["a"]}})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def submit(http: httpx.Client) -> str:
    submitted = http.post(f"{BATCHES}?output_table={RESULTS}", json={"dataframe_records": [{"text": "a"}, {"text": "b"}]})
    assert submitted.status_code == 200, submitted.text
    return str(submitted.json()["batch_id"])


def state_of(http: httpx.Client, batch: str) -> str:
    return str(http.get(f"{BATCHES}/{batch}").json()["state"])


def rows(workspace: WorkspaceClient) -> list[str]:
    asked = workspace.statement_execution.execute_statement(warehouse_id="any", statement=f"select databricks_request_id from {ROWS}")
    return [row[0] for row in (asked.result and asked.result.data_array) or []]
