"""Batches from the POST to their results: each row scored once and told once, whatever fails or is killed on the way."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from deltalake import DeltaTable

from services.cli.admin_token import read_token
from services.shared.control_events import LANES_PER_REPLICA
from tests.e2e.conftest import Deployed, Stack, eventually, records_of, wait_for_update
from tests.e2e.models import Affine, register
from tests.e2e.own_stack import OwnStack

ENDED_S = 90.0
SUBMISSIONS = "services.ingress.submissions"
NO_ROW, RAISES, KILLS = "no object", -1.0, 666.0


def batches(endpoint: Deployed) -> str:
    return f"/api/2.0/serving-endpoints/{endpoint.name}/batches"


def submitted(client: httpx.Client, endpoint: Deployed, body: dict[str, Any]) -> str:
    """The address of the batch. The key makes of two submissions one."""
    first, again = (client.post(batches(endpoint), json=body, headers={"Idempotency-Key": endpoint.name}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200), first.text
    assert first.json()["batch_id"] == again.json()["batch_id"]
    return f"{batches(endpoint)}/{first.json()['batch_id']}"


def succeeded(client: httpx.Client, batch: str) -> int:
    counts: dict[str, int] = client.get(batch).json()["counts"]
    return counts["succeeded"]


async def ended(client: httpx.Client, batch: str) -> dict[str, Any]:
    def view() -> dict[str, Any] | None:
        told: dict[str, Any] = client.get(batch).json()
        return told if "end_timestamp" in told else None

    found: dict[str, Any] = await eventually(view, ENDED_S)
    return found


def results_of(client: httpx.Client, batch: str) -> list[dict[str, Any]]:
    answer = client.get(f"{batch}/results")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def items_in(table: Path, status: int = 200) -> list[list[float]]:
    """The values of each item that came to this; each has one row."""
    if not (table / "_delta_log").exists():
        return []
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    assert max(Counter(row["databricks_request_id"] for row in rows).values()) == 1
    return [[x for [x] in json.loads(row["request"])["dataframe_split"]["data"]] for row in rows if row["status_code"] == status]


async def test_each_row_is_told_once_whatever_fails_and_whoever_is_killed(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint = deploy()
    values: list[Any] = [1_000.0 + n for n in range(1_200)]
    values[7], values[600], values[601] = KILLS, RAISES, NO_ROW
    good = [x for x in values if x not in (RAISES, KILLS, NO_ROW)]
    table = f"main.ml.of_{endpoint.name}"
    records = [x if x is NO_ROW else {"x": x} for x in values]
    with stack.client() as client:
        supervisor, scorers = stack.status()["supervisor"], stack.pids(f"scorer-{endpoint.id}")
        batch = submitted(client, endpoint, {"dataframe_records": records, "params": {"sleep_s": 0.03}, "output_table": table})
        await killed_amid(supervisor, f"{SUBMISSIONS}.preparation ")
        await eventually(lambda: succeeded(client, batch))
        for pid in (*scorers, *(process.pid for process in running(supervisor, f"{SUBMISSIONS} "))):
            os.kill(pid, signal.SIGKILL)
        await killed_amid(supervisor, f"{SUBMISSIONS}.conclusion ")
        view = await ended(client, batch)
        assert (view["state"], view["counts"]) == ("SUCCEEDED", {"rows": len(values), "succeeded": len(good), "failed": 3}), view
        found = results_of(client, batch)
        assert [row["x"] for row in found] == [None if x is NO_ROW else x for x in values]
        assert [row["prediction"] for row in found if not row["error"]] == [2 * x for x in good]
        errors = {row["x"]: row["error"]["message"] for row in found if row["error"]}
        assert "evaluating the model" in errors[RAISES]
        assert "crashed" in errors[KILLS]
        assert "Row 602" in errors[None]
        statement = {"statement": f"SELECT count(*), count(prediction) FROM {table}", "warehouse_id": "any"}
        answer = client.post("/api/2.0/sql/statements", json=statement).json()
        assert answer["result"]["data_array"] == [[str(len(values)), str(len(good))]], answer
    await eventually(lambda: sum(map(len, items_in(endpoint.table))) >= len(good))
    assert sorted(x for values in items_in(endpoint.table) for x in values) == good


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[OwnStack]:
    stack = OwnStack(tmp_path)
    stack.up()
    yield stack
    stack.down()


async def test_a_batch_goes_on_when_servers_and_ingress_die_and_when_the_stack_was_stopped(own_stack: OwnStack) -> None:
    name, count = "churn", 1_000
    entity = {"entity_name": name, "entity_version": register(own_stack.status()["mlflow"], name, Affine(2.0)), "workload_size": "Small"}
    logged = {"inference_table_config": {"enabled": True, "catalog_name": "main", "schema_name": "e2e"}}
    values = [1_000.0 + n for n in range(count)]
    body = {"dataframe_records": [{"x": x} for x in values], "params": {"sleep_s": 1.5}}
    with client_of(own_stack) as client:
        created = client.post(
            "/api/2.0/serving-endpoints", json={"name": name, "config": {"served_entities": [entity]}, "ai_gateway": logged}
        )
        assert created.status_code == 200, created.text
        endpoint = Deployed(name, wait_for_update(client, name)["id"], own_stack.state / "tables/main/e2e/churn_payload", "")
        batch = submitted(client, endpoint, body)
        await eventually(lambda: succeeded(client, batch))
        for process in own_stack.status()["processes"]:
            if process["name"] in ("kafka", "redis", "ingress-0"):
                os.kill(process["pid"], signal.SIGKILL)
    before = await eventually(lambda: seen_of(own_stack, batch))
    assert "end_timestamp" not in before
    await eventually(lambda: seen_of(own_stack, batch)["counts"]["succeeded"] > before["counts"]["succeeded"])
    assert "end_timestamp" not in seen_of(own_stack, batch)
    own_stack.down()
    own_stack.up()
    with client_of(own_stack) as client:
        view = await ended(client, batch)
        assert (view["state"], view["counts"]) == ("SUCCEEDED", {"rows": count, "succeeded": count, "failed": 0}), view
        assert [(row["x"], row["prediction"]) for row in results_of(client, batch)] == [(x, 2 * x) for x in values]
    await eventually(lambda: sum(map(len, items_in(endpoint.table))) >= count)
    assert sorted(x for item in items_in(endpoint.table) for x in item) == values


def client_of(stack: OwnStack) -> httpx.Client:
    status = stack.status()
    token = read_token(Path(status["config_file"]))
    return httpx.Client(base_url=status["host"], headers={"Authorization": f"Bearer {token}"}, timeout=150, trust_env=False)


def seen_of(stack: OwnStack, batch: str) -> dict[str, Any]:
    """Empty while nobody can say."""
    with client_of(stack) as client:
        answer = client.get(batch)
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return found


async def killed_amid(supervisor: int, module: str) -> None:
    """The process of the stack that has run the module apart, which goes on, as soon as that is seen."""
    async with asyncio.timeout(ENDED_S):
        while not (found := running(supervisor, module)):
            await asyncio.sleep(0.01)
    os.kill(found[0].ppid(), signal.SIGKILL)


def running(supervisor: int, module: str) -> list[psutil.Process]:
    """`python -m module`, wherever in the stack."""
    return [process for process in psutil.Process(supervisor).children(recursive=True) if f"-m {module}" in command_of(process)]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join([*process.cmdline(), ""])
    except psutil.Error:  # it ended meanwhile
        return ""


async def test_a_batch_that_is_canceled_stops_and_tells_what_was_scored(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint, count = deploy(), 2_000
    body = {"dataframe_records": [{"x": float(n)} for n in range(count)], "params": {"sleep_s": 0.3}}
    with stack.client() as client:
        batch = submitted(client, endpoint, body)
        await eventually(lambda: succeeded(client, batch))
        assert client.post(f"{batch}/cancel").json()["state"] == "CANCELING"
        view = await ended(client, batch)
        assert view["state"] == "CANCELED"
        found = results_of(client, batch)
    scored = [row for row in found if row["error"] is None]
    assert (len(found), len(scored)) == (count, view["counts"]["succeeded"])
    assert 0 < len(scored) < count
    assert {row["error"]["error_code"] for row in found if row["error"]} == {"CANCELLED"}
    items = await records_of(stack, endpoint)
    await eventually(lambda: len(items_in(endpoint.table)) + len(items_in(endpoint.table, 499)) == items)
    in_vain = sum(map(len, items_in(endpoint.table))) - len(scored)
    assert in_vain <= LANES_PER_REPLICA * max(map(len, items_in(endpoint.table))), "more than was being scored"
