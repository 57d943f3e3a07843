"""Bodies near the limit of 16 MiB beside small requests, and bodies above it, through the whole stack."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median
from urllib.parse import urlsplit

import httpx
import pytest
from deltalake import DeltaTable
from redis import Redis

from services.shared.settings import MIB
from tests.e2e.conftest import Deployed, Stack, eventually
from tests.e2e.models import ECHO_SIGNATURE, Echo, register
from tests.e2e.test_faults import say

TEXT = "x" * int(15.9 * MIB)
TOO_LONG = b"x" * int(16.1 * MIB)
LARGE_REQUESTS = 4
SMALL_CLIENTS = 2


@pytest.fixture(scope="session")
def echo(stack: Stack) -> str:
    """The version of a model that answers what it is asked."""
    return register(stack.mlflow, "echo", Echo(), ECHO_SIGNATURE)


async def test_bodies_near_the_limit_come_and_go_beside_small_ones(
    stack: Stack, deploy: Callable[..., Deployed], echo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = deploy(echo, entity_name="echo")
    redis = Redis.from_url(stack.status()["redis"])
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack.token}"}, timeout=150) as client:
        alone_s = [await _echo(client, endpoint, "a") for _ in range(20)]
        empty_bytes = _used_bytes(redis)
        async with _small_requests(client, endpoint) as beside_s:
            large_s = [await _echo(client, endpoint, TEXT) for _ in range(LARGE_REQUESTS)]
        answered_at = time.monotonic()
        await eventually(lambda: _used_bytes(redis) < empty_bytes + MIB, 10)
    trimmed_s = time.monotonic() - answered_at
    redis.close()
    say(
        capsys,
        f"{LARGE_REQUESTS} large ones took {median(large_s):.2f} s each; Redis was empty after {trimmed_s:.1f} s; small ones alone "
        f"{median(alone_s) * 1000:.0f} ms, {len(beside_s)} beside {median(beside_s) * 1000:.0f} ms, at most {max(beside_s) * 1000:.0f} ms",
    )
    assert len(beside_s) >= 10
    assert median(beside_s) < median(large_s)
    sent = len(alone_s) + len(beside_s) + len(large_s)
    assert await eventually(lambda: (rows := _row_count(endpoint)) >= sent and rows) == sent


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(f"content-length: {len(TOO_LONG)}", TOO_LONG, id="sent whole before the answer is read"),
        pytest.param(
            "transfer-encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(TOO_LONG), TOO_LONG), id="sent in chunks without its length"
        ),
        pytest.param(f"content-length: {len(TOO_LONG)}\r\nexpect: 100-continue", b"", id="offered with Expect: 100-continue"),
    ],
)
def test_a_body_over_the_limit_is_refused_and_its_connection_does_not_break(
    stack: Stack, capsys: pytest.CaptureFixture[str], headers: str, body: bytes
) -> None:
    url = urlsplit(stack.host)
    head = f"POST /serving-endpoints/none/invocations HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {stack.token}\r\n{headers}\r\n\r\n"
    took_s = []
    for _ in range(5):
        started_at = time.monotonic()
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=10) as client:
            client.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        took_s.append(time.monotonic() - started_at)
        answer_head, _, answer_body = answer.partition(b"\r\n\r\n")
        assert answer_head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer_head.lower()
        assert json.loads(answer_body)["error_code"] == "BAD_REQUEST"
    say(capsys, f"{median(took_s) * 1000:.0f} ms, at most {max(took_s) * 1000:.0f} ms")
    assert median(took_s) < 1, "no time-out is waited for"


@asynccontextmanager
async def _small_requests(client: httpx.AsyncClient, endpoint: Deployed) -> AsyncIterator[list[float]]:
    """Small requests while the block lasts; what each took, in seconds."""
    took_s: list[float] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            took_s.append(await _echo(client, endpoint, "a"))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as clients:
        for number in range(SMALL_CLIENTS):
            clients.create_task(ask(), name=f"small-{number}")
        yield took_s
        stop.set()


async def _echo(client: httpx.AsyncClient, endpoint: Deployed, text: str) -> float:
    """Seconds until the right answer was here."""
    body = json.dumps({"inputs": {"text": [text]}}).encode()
    started_at = time.monotonic()
    answer = await client.post(endpoint.invocations, content=body, headers={"content-type": "application/json"})
    took_s = time.monotonic() - started_at
    assert (answer.status_code, answer.content) == (200, json.dumps({"predictions": [text]}).encode())
    return took_s


def _used_bytes(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


def _row_count(endpoint: Deployed) -> int:
    table = endpoint.table
    return DeltaTable(table).to_pyarrow_table().num_rows if (table / "_delta_log").exists() else 0
