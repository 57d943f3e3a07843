"""Ingress processes as they run, over real Kafka and Redis, without a scaler: what becomes of a deployment is told by the test."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import httpx
from aiokafka import AIOKafkaProducer

from services.cli.ports import LOOPBACK, free_port
from services.cli.probes import wait_until
from services.shared.clock import now_ms
from services.shared.control_events import ControlEvent, TokenCreated, encode_event
from services.shared.kafka_clients import started_producer
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import CONTROL

MODEL, VERSIONS = "churn", ("1", "2", "3")  # what the registry has
START_TIMEOUT_S = 60
PLENTY = "1000000"


class ControlLog:
    """Appends to the control log, as the scaler and the `penstock` command do."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._loop = asyncio.Runner()
        self._producer: AIOKafkaProducer = self._loop.run(started_producer(kafka))

    def append(self, event: ControlEvent) -> None:
        """Acknowledged; every ingress folds it before it answers the next management request."""
        self._loop.run(self._append(event))

    def close(self) -> None:
        self._loop.run(self._producer.stop())
        self._loop.close()

    async def _append(self, event: ControlEvent) -> None:
        await self._producer.send_and_wait(CONTROL, encode_event(event), partition=0)


@dataclass(frozen=True)
class Ingresses:
    """Several processes, so that what one has written is read from another."""

    hosts: tuple[str, ...]
    log: ControlLog

    def token(self, principal: str) -> str:
        token = f"dapi-{principal}-{os.urandom(16).hex()}"
        digest = sha256(token.encode()).hexdigest()
        self.log.append(TokenCreated(token_id=digest[:16], sha256=digest, principal=principal, at_ms=now_ms()))
        return token


@contextmanager
def running_ingresses(count: int, kafka: KafkaSettings, redis: RedisSettings, state: Path) -> Iterator[Ingresses]:
    with ExitStack() as stack:
        log = ControlLog(kafka)
        stack.callback(log.close)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")} | {
            "PENSTOCK_STATE": str(state),
            "PENSTOCK_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_MLFLOW_TRACKING_URI": stack.enter_context(_registry()),
            "PENSTOCK_INGRESS_MAX_CHANGES_PER_5_MINUTES": PLENTY,
            "PENSTOCK_INGRESS_MAX_PROVISIONED_CONCURRENCY": PLENTY,
        }
        ports = [free_port() for _ in range(count)]
        for port in ports:
            stack.enter_context(_ingress({**environment, "PENSTOCK_INGRESS_PORT": str(port)}, state / f"ingress-{port}.log"))
        hosts = tuple(f"http://{LOOPBACK}:{port}" for port in ports)
        asyncio.run(_wait_for(hosts))
        yield Ingresses(hosts, log)


@contextmanager
def _ingress(environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "services.ingress"], env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def _wait_for(hosts: tuple[str, ...]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as http:

        async def all_ready() -> bool:
            try:
                return all([(await http.get(f"{host}/health/ready")).is_success for host in hosts])
            except httpx.HTTPError:
                return False

        await wait_until(all_ready)


class _Registry(BaseHTTPRequestHandler):
    """What the ingress asks MLflow: whether a model version is there."""

    def do_GET(self) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        known = asked.get("name") == MODEL and asked.get("version") in VERSIONS
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def _registry() -> Iterator[str]:
    with ThreadingHTTPServer((LOOPBACK, 0), _Registry) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join()
