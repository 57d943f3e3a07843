"""Callers who hang up while their requests wait, through the whole stack."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from deltalake import DeltaTable

from tests.e2e.conftest import Deployed, Stack, eventually, records_of

CALLERS = 40
LANES = 4
SLEEP_S = 3.0


async def test_callers_who_hang_up_free_the_pool_for_others_and_their_rows_say_so(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    """Forty evaluations of three seconds on four lanes are half a minute; who comes after the hang-ups waits for the running four only."""
    endpoint = deploy()
    errors_before = _errors(stack)
    body = {"inputs": {"x": [1.0]}, "params": {"sleep_s": SLEEP_S}}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150) as other:
        await other.post(endpoint.invocations, json={"inputs": {"x": [1.0]}})
        callers = [asyncio.create_task(_call(stack, endpoint, body), name=f"caller-{n}") for n in range(CALLERS)]
        async with asyncio.timeout(60):
            while await records_of(stack, endpoint) < CALLERS + 1:
                await asyncio.sleep(0.1)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        hung_up_at = time.monotonic()
        answer = await _call_when_admitted(other, endpoint, {"client_request_id": "after", "inputs": {"x": [2.0]}})
        waited_s = time.monotonic() - hung_up_at
    assert (answer.status_code, answer.json()) == (200, {"predictions": [4.0]})
    assert waited_s < 3 * SLEEP_S
    rows = await eventually(lambda: _rows(endpoint.table, CALLERS + 2))
    statuses = Counter(row["status_code"] for row in rows)
    assert statuses[499] + statuses[200] == CALLERS + 2
    assert CALLERS - 2 * LANES <= statuses[499] <= CALLERS
    assert len({row["databricks_request_id"] for row in rows}) == CALLERS + 2
    assert {row["client_request_id"] for row in rows if row["status_code"] == 499} == {"mine"}
    assert _errors(stack) == errors_before


async def test_a_hang_up_in_mid_upload_is_no_error_and_no_row(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint = deploy()
    errors_before = _errors(stack)
    url = urlsplit(endpoint.invocations)
    head = f"POST {url.path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {stack.token}\r\ncontent-length: 1000\r\n\r\n"
    for _ in range(4):
        with socket.create_connection((url.hostname or "", url.port or 0)) as client:
            client.sendall(head.encode() + b'{"inputs": ')
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150) as other:
        assert (await other.post(endpoint.invocations, json={"inputs": {"x": [2.0]}})).status_code == 200
    [row] = await eventually(lambda: _rows(endpoint.table, 1))
    assert row["status_code"] == 200
    assert _errors(stack) == errors_before


async def _call_when_admitted(client: httpx.AsyncClient, endpoint: Deployed, body: dict[str, Any]) -> httpx.Response:
    """Admission goes by the lag of a second ago: who is sent away by it comes back, as clients do."""
    while (answer := await client.post(endpoint.invocations, json=body)).status_code == 429:
        await asyncio.sleep(0.5)
    return answer


async def _call(stack: Stack, endpoint: Deployed, body: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {stack.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=150, verify=False) as client:  # forty trust stores take seconds to load
        await client.post(endpoint.invocations, json={"client_request_id": "mine", **body})


def _errors(stack: Stack) -> int:
    """Of ours and the HTTP server's; aiokafka calls a topic it asks for the first time an error."""
    logs = (Path(stack.environ["PENSTOCK_STATE"]) / "logs").glob("ingress-*.log")
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return sum('"ERROR"' in line and '"aiokafka.' not in line for line in lines)


def _rows(table: Path, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = DeltaTable(table).to_pyarrow_table().to_pylist() if (table / "_delta_log").exists() else []
    return rows if len(rows) >= count else []
