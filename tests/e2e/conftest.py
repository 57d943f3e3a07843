"""One stack for the whole session, started as a user starts it, and endpoints made through the REST API."""

import asyncio
import configparser
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from tests.e2e.collector import Collector, collecting
from tests.e2e.models import Affine, Unloadable, register

DEPLOY_TIMEOUT_S = 120.0
CATALOG, SCHEMA = "main", "e2e"
COMPACT_COMMITS = 10  # so that tables have their upkeep in a test's time


@dataclass(frozen=True)
class Stack:
    """A running stack, known only by what `penstock status --json` and its profile say."""

    environ: dict[str, str]
    host: str
    token: str
    mlflow: str
    kafka: str
    config_file: str
    tables: Path

    def penstock(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "services.cli", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=240, check=False)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.penstock("status", "--json").stdout)
        return status

    def pids(self, prefix: str) -> list[int]:
        return [p["pid"] for p in self.status()["processes"] if p["name"].startswith(prefix) and p["pid"]]

    def workers(self, pool: str) -> list[int]:
        """Model workers of an endpoint's replicas, forked or not: they run in the working folders of its pools."""
        status = self.status()
        family = psutil.Process(status["supervisor"]).children(recursive=True)
        return [process.pid for process in family if _folder_of(process).startswith(f"{status['state']}/scratch/{pool}")]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.host, headers={"Authorization": f"Bearer {self.token}"}, timeout=150)


def _folder_of(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    """Two ingress processes, short windows, free ports, spans to a collector."""
    state = tmp_path_factory.mktemp("stack")
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("DATABRICKS_")}
    environ = kept | {  # without the developer's own workspace, which `penstock endpoints` would ask
        "PENSTOCK_STATE": str(state),
        "PENSTOCK_INGRESS_PORT": "0",
        "PENSTOCK_KAFKA_PORT": "0",
        "PENSTOCK_REDIS_PORT": "0",
        "PENSTOCK_MLFLOW_PORT": "0",
        "PENSTOCK_INGRESS_PROCESSES": "2",
        "PENSTOCK_INGRESS_MAX_QUEUE_WAIT_S": "3",
        "PENSTOCK_INGRESS_MAX_QUERIES_PER_SECOND": "25000",  # what is measured here are other bounds
        "PENSTOCK_INGRESS_MAX_CHANGES_PER_5_MINUTES": "10000",
        "PENSTOCK_SCALER_TICK_S": "0.5",
        "PENSTOCK_SCALER_IDLE_TO_ZERO_S": "5",
        "PENSTOCK_SCALER_DOWN_INTERVAL_S": "5",
        "PENSTOCK_SCALER_RECOVERY_LIMIT_S": "10",
        "PENSTOCK_SCORER_EVALUATION_LIMIT_S": "8",
        "PENSTOCK_LOGGER_COMPACT_COMMITS": str(COMPACT_COMMITS),
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{collector.port}/v1/traces",
    }
    command = [sys.executable, "-m", "services.cli"]
    started = subprocess.run([*command, "up"], env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        status = json.loads(subprocess.run([*command, "status", "--json"], env=environ, capture_output=True, text=True, check=True).stdout)
        profile = configparser.ConfigParser()
        profile.read(status["config_file"])
        yield Stack(
            environ=environ,
            host=status["host"],
            token=profile["DEFAULT"]["token"],
            mlflow=status["mlflow"],
            kafka=status["kafka"],
            config_file=status["config_file"],
            tables=Path(status["tables"]),
        )
    finally:
        stopped = subprocess.run([*command, "down"], env=environ, capture_output=True, text=True, timeout=240, check=False)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@dataclass(frozen=True)
class Models:
    """Registered versions: `name`/`double` answers 2·x, `name`/`triple` 3·x, `name`/`unloadable` never loads."""

    name: str
    double: str
    triple: str
    unloadable: str


@pytest.fixture(scope="session")
def models(stack: Stack) -> Models:
    name = "affine"
    return Models(
        name,
        register(stack.mlflow, name, Affine(2.0)),
        register(stack.mlflow, name, Affine(3.0)),
        register(stack.mlflow, name, Unloadable()),
    )


@dataclass(frozen=True)
class Deployed:
    """An endpoint in service."""

    name: str
    id: str
    table: Path
    invocations: str

    def entity(self, models: Models, version: str, **more: Any) -> dict[str, Any]:
        return {"entity_name": models.name, "entity_version": version, "workload_size": "Small", **more}


@pytest.fixture
def deploy(stack: Stack, models: Models) -> Iterator[Callable[..., Deployed]]:
    """Makes endpoints of their own for a test, and deletes them after it."""
    made: list[str] = []

    def make(version: str | None = None, **entity: Any) -> Deployed:
        name = f"e{uuid4().hex[:8]}"
        sent = {"entity_name": models.name, "entity_version": version or models.double, "workload_size": "Small", **entity}
        if "max_provisioned_concurrency" in entity:
            del sent["workload_size"]
        body = {
            "name": name,
            "config": {"served_entities": [sent]},
            "ai_gateway": {"inference_table_config": {"enabled": True, "catalog_name": CATALOG, "schema_name": SCHEMA}},
        }
        with stack.client() as client:
            created = client.post("/api/2.0/serving-endpoints", json=body)
            assert created.status_code == 200, created.text
            made.append(name)
            found = wait_for_update(client, name)
        assert found["state"] == {"ready": "READY", "config_update": "NOT_UPDATING", "suspend": "NOT_SUSPENDED"}, found
        return Deployed(
            name, found["id"], stack.tables / CATALOG / SCHEMA / f"{name}_payload", f"{stack.host}/serving-endpoints/{name}/invocations"
        )

    yield make
    with stack.client() as client:
        for name in made:
            client.delete(f"/api/2.0/serving-endpoints/{name}")


def wait_for_update(client: httpx.Client, name: str) -> dict[str, Any]:
    """The endpoint once its update has ended, however it ended."""
    give_up_at = time.monotonic() + DEPLOY_TIMEOUT_S
    while True:
        found: dict[str, Any] = client.get(f"/api/2.0/serving-endpoints/{name}").json()
        if found["state"]["config_update"] != "IN_PROGRESS":
            return found
        assert time.monotonic() < give_up_at, found
        time.sleep(0.3)


async def eventually(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until `condition()` holds; returns what it returned. It is asked in a thread: clients in this process go on meanwhile."""
    async with asyncio.timeout(timeout_s):
        while not (found := await asyncio.to_thread(condition)):
            await asyncio.sleep(0.2)
    return found


async def records_of(stack: Stack, endpoint: Deployed) -> int:
    """How many requests were ever put into its pools' topics, bulk work included."""
    async with new_consumer(KafkaSettings(bootstrap=stack.kafka)) as consumer:
        topics = [topic for topic in await consumer.topics() if topic.startswith(f"penstock.pool.{endpoint.id}")]
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        described = await admin.describe_topics(topics)
        await admin.close()
        partitions = [TopicPartition(found["topic"], partition["partition"]) for found in described for partition in found["partitions"]]
        return sum((await consumer.end_offsets(partitions)).values())
