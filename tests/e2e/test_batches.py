"""Batches from the POST to their results: each row scored once and told once, whatever fails or is killed on the way."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from deltalake import DeltaTable

from services.shared.control_events import LANES_PER_REPLICA
from tests.e2e.conftest import Deployed, Stack, eventually

ENDED_S = 90.0
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
        batch = submitted(client, endpoint, {"dataframe_records": records, "params": {"sleep_s": 0.03}, "output_table": table})
        await eventually(lambda: succeeded(client, batch))
        for name in (f"scorer-{endpoint.id}", "submissions"):
            for process in stack.pids(name):
                os.kill(process, signal.SIGKILL)
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
    await eventually(lambda: items_in(endpoint.table, 499))
    in_vain = sum(map(len, items_in(endpoint.table))) - len(scored)
    assert in_vain <= LANES_PER_REPLICA * max(map(len, items_in(endpoint.table))), "more than was being scored"
