"""The held-out rows through the endpoint's public topics, as any Kafka client would send them."""

import asyncio
import json
import logging
import uuid
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from databricks.sdk import WorkspaceClient

from services.cli.demo.ledger import Answered
from services.cli.demo.models import HeldOut

PATIENCE_S = 60.0


def score_by_topic(workspace: WorkspaceClient, endpoint: str, held_out: HeldOut) -> list[Answered]:
    """One record a row. Raises TimeoutError when a result is not there after a minute."""
    topics: Any = workspace.api_client.do("PUT", f"/api/2.0/serving-endpoints/{endpoint}/topics", body={"enabled": True})
    return asyncio.run(_score(topics, held_out))


async def _score(topics: dict[str, str], held_out: HeldOut) -> list[Answered]:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # partitions made a moment ago have no leader yet
    run, kafka = uuid.uuid4().hex, topics["bootstrap_servers"]
    found: dict[int, Answered] = {}
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as clients:
        results = await clients.enter_async_context(AIOKafkaConsumer(topics["results_topic"], bootstrap_servers=kafka))
        producer = await clients.enter_async_context(AIOKafkaProducer(bootstrap_servers=kafka, acks="all"))
        await results.seek_to_end()
        for row in range(len(held_out.labels)):
            split = held_out.features.iloc[row : row + 1].to_dict(orient="split")
            body = {"client_request_id": f"topic-{row}", "dataframe_split": {"columns": split["columns"], "data": split["data"]}}
            await producer.send(topics["requests_topic"], json.dumps(body).encode(), key=f"{run}/{row}".encode())
        while len(found) < len(held_out.labels):
            record = await results.getone()
            sender, _, number = (record.key or b"").decode(errors="replace").partition("/")
            if sender == run:
                row = int(number)
                headers = dict(record.headers)
                predictions = json.loads(record.value).get("predictions", [])
                entity, took_ms = headers.get("penstock-served-entity", b"").decode(), float(headers["penstock-execution-ms"])
                found.setdefault(row, Answered(f"topic-{row}", range(row, row + 1), entity, predictions, took_ms))
    return [found[row] for row in sorted(found)]
