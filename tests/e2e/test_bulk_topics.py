"""Bulk work over an endpoint's public topics: the clients of docs/bulk.md as they stand there, and what is killed meanwhile."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from deltalake import DeltaTable

from services.shared.clock import now_ms
from services.shared.results import ScoringResult, parse_result
from tests.e2e.conftest import Deployed, Stack, eventually

DOCS = Path(__file__).parents[2] / "docs" / "bulk.md"
ROOT = DOCS.parents[1]


def snippet(title: str) -> str:
    found = re.search(rf"^### {title}.*?^```\w+\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def run(stack: Stack, endpoint: Deployed, *command: str) -> str:
    """What a client of the docs prints, run as its reader would."""
    environment = os.environ | {"KAFKA": stack.kafka, "ENDPOINT": endpoint.name}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def switch_on(stack: Stack, endpoint: Deployed) -> dict[str, Any]:
    done = stack.penstock("endpoints", "topics", endpoint.name, "--on", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(table: Path) -> list[dict[str, Any]]:
    return DeltaTable(table).to_pyarrow_table().to_pylist() if (table / "_delta_log").exists() else []


def ids_in(table: Path) -> list[str]:
    return [row["databricks_request_id"] for row in rows_of(table)]


async def answer_to(stack: Stack, endpoint: Deployed, key: bytes, *headers: tuple[str, bytes]) -> ScoringResult:
    """What a record of one row comes to."""
    topic = f"penstock.endpoint.{endpoint.name}"
    consumer = AIOKafkaConsumer(f"{topic}.results", bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer, consumer, asyncio.timeout(60):
        await producer.send_and_wait(f"{topic}.requests", b'{"dataframe_records": [{"x": 1}]}', key=key, headers=list(headers))
        while (record := await consumer.getone()).key != key:
            continue
    return parse_result(record.headers, record.value, record.key)


async def test_the_clients_of_the_docs_get_their_answers_and_rows(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint = deploy()
    assert switch_on(stack, endpoint)["bootstrap_servers"] == stack.kafka
    told = run(stack, endpoint, "bash", "-c", snippet("kafka-console-producer"))
    lines = [line.split("\t") for line in told.splitlines() if "penstock-status:200" in line]
    assert sorted((key, json.loads(body)) for _, key, body in lines) == [("one", {"predictions": [2.0]}), ("two", {"predictions": [5.0]})]
    answers = "[(200, {'predictions': [2.0]}), (200, {'predictions': [5.0]})]\n"
    clients = (asyncio.to_thread(run, stack, endpoint, sys.executable, "-c", snippet(name)) for name in ("aiokafka", "confluent-kafka"))
    assert await asyncio.gather(*clients) == [answers, answers]
    late = await answer_to(stack, endpoint, b"late", ("penstock-deadline-ms", b"%d" % (now_ms() + 1)))
    assert (late.status, json.loads(late.body)["error_code"]) == (504, "DEADLINE_EXCEEDED")
    await eventually(lambda: len(ids_in(endpoint.table)) == 7)
    rows = rows_of(endpoint.table)
    assert Counter(row["status_code"] for row in rows) == {200: 6, 504: 1}
    assert [row["databricks_request_id"] for row in rows if row["status_code"] == 504] == [late.request_id]
    assert {row["requester"] for row in rows} == {"admin"}


async def test_each_submission_is_one_row_and_one_id_whoever_is_killed(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint, count = deploy(), 300
    topics = switch_on(stack, endpoint)
    results: dict[str, ScoringResult] = {}
    copies = 0
    consumer = AIOKafkaConsumer(topics["results_topic"], bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer, consumer:

        async def submit(number: int, own: str) -> None:
            body = json.dumps({"client_request_id": str(number), "dataframe_records": [{"x": number}]}).encode()
            await producer.send(topics["requests_topic"], body, key=b"%d" % number, headers=[("ce_id", own.encode())])

        async def read(goal: int) -> None:
            nonlocal copies
            while len(results) < goal:
                record = await consumer.getone()
                copies += 1
                result = parse_result(record.headers, record.value, record.key)
                results.setdefault(result.request_id, result)

        ids = [str(uuid4()) for _ in range(count)]
        for number, own in enumerate(ids):
            await submit(number, own)
        await producer.flush()
        await read(1)
        for process in (*stack.pids("submissions"), *stack.pids(f"scorer-{endpoint.id}")):
            os.kill(process, signal.SIGKILL)
        for number in range(0, count, 10):
            await submit(number, ids[number])  # again
        await read(count)
        while copies < count + count // 10:
            copies += bool(await consumer.getone())
        await submit(count, "last")  # outcomes of a pool come in order, so once it has its row there is no other to come
        await read(count + 1)
    last = next(result.request_id for result in results.values() if result.submission == "last")
    await eventually(lambda: last in ids_in(endpoint.table))
    rows = Counter(ids_in(endpoint.table))
    assert rows.keys() == results.keys()
    assert set(rows.values()) == {1}
    numbers = dict(enumerate([*ids, "last"]))
    assert {int(result.key): result.submission for result in results.values()} == numbers
    assert {int(result.key): json.loads(result.body) for result in results.values()} == {n: {"predictions": [2.0 * n]} for n in numbers}
