"""A Penstock stack to measure: one of our own in a fresh folder, or one that runs already."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import httpx

from bench.models import register

PORTS = ("INGRESS", "KAFKA", "REDIS", "MLFLOW")
DEPLOY_TIMEOUT_S = 240.0
BACK_TIMEOUT_S = 60.0
CATALOG, SCHEMA = "main", "bench"
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
SMALL: Mapping[str, Any] = MappingProxyType({"workload_size": "Small"})


class DeployFailed(Exception):
    """Says what the endpoint said."""


@dataclass(frozen=True)
class Stack:
    """A running stack, known by its folder."""

    environ: Mapping[str, str]
    host: str
    token: str
    mlflow: str

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_penstock(self.environ, "status", "--json"))
        return found

    def url(self, endpoint: str) -> str:
        return f"{self.host}/serving-endpoints/{endpoint}/invocations"

    def update(self, endpoint: str, model: str, folder: Path, size: Mapping[str, Any] = SMALL) -> float:
        """Register that folder as the model's next version and serve it instead; seconds from the call until it is READY."""
        entity = {"entity_name": model, "entity_version": register(self.mlflow, model, folder), **size}
        with httpx.Client(base_url=self.host, headers={"Authorization": f"Bearer {self.token}"}, timeout=60) as client:
            began = time.monotonic()
            client.put(f"/api/2.0/serving-endpoints/{endpoint}/config", json={"served_entities": [entity]}).raise_for_status()
            _wait_until_ready(client, endpoint)
        return time.monotonic() - began

    def table_of(self, endpoint: str) -> Path:
        """The folder of its inference table."""
        return Path(self.status()["tables"]) / CATALOG / SCHEMA / f"{endpoint}_payload"

    def ask(self, endpoint: str, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return httpx.post(self.url(endpoint), content=body, headers=headers, timeout=60)

    @contextmanager
    def serving(
        self, model: str, folder: Path, variables: Mapping[str, str] = NO_VARIABLES, size: Mapping[str, Any] = SMALL
    ) -> Iterator[str]:
        """An endpoint of that model while the block lasts: one entity of that size, its inference table on. Yields its name."""
        endpoint = f"bench-{model}-{uuid4().hex[:6]}"
        entity = {"entity_name": model, "entity_version": register(self.mlflow, model, folder), **size}
        table = {"enabled": True, "catalog_name": CATALOG, "schema_name": SCHEMA}
        body = {
            "name": endpoint,
            "config": {"served_entities": [{**entity, **({"environment_vars": dict(variables)} if variables else {})}]},
            "ai_gateway": {"inference_table_config": table},
        }
        with httpx.Client(base_url=self.host, headers={"Authorization": f"Bearer {self.token}"}, timeout=60) as client:
            client.post("/api/2.0/serving-endpoints", json=body).raise_for_status()
            try:
                _wait_until_ready(client, endpoint)
                yield endpoint
            finally:
                client.delete(f"/api/2.0/serving-endpoints/{endpoint}")


@contextmanager
def own_stack(settings: Mapping[str, str] = NO_VARIABLES) -> Iterator[Stack]:
    """A stack on free ports in a folder that goes with it; default settings but for those given, and no limit of requests a second."""
    state = Path(tempfile.mkdtemp(prefix="pbench"))
    environ = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("PENSTOCK_")},
        "PENSTOCK_STATE": str(state),
        **{f"PENSTOCK_{name}_PORT": "0" for name in PORTS},
        "PENSTOCK_INGRESS_MAX_QUERIES_PER_SECOND": "1000000",
        **settings,
    }
    _penstock(environ, "up")  # one that does not come up ends by itself; its folder stays, for its logs
    try:
        yield _attach(environ)
    finally:
        _penstock(environ, "down")
        shutil.rmtree(state, ignore_errors=True)


def running_stack(state: Path) -> Stack:
    """The stack of that folder; it is left as it is."""
    return _attach({**os.environ, "PENSTOCK_STATE": str(state)})


def answers_everywhere(host: str, token: str) -> bool:
    """Whether twenty connections in a row, which the ingress processes take from one socket, find one that knows its tokens."""
    headers = {"Authorization": f"Bearer {token}"}
    return all(httpx.get(f"{host}/api/2.0/serving-endpoints", headers=headers).status_code == 200 for _ in range(20))


def wait_until_all_answer(stack: Stack) -> None:
    give_up_at = time.monotonic() + BACK_TIMEOUT_S
    while not answers_everywhere(stack.host, stack.token):
        assert time.monotonic() < give_up_at, f"not every ingress answers after {BACK_TIMEOUT_S:g} s"
        time.sleep(0.2)


def _attach(environ: Mapping[str, str]) -> Stack:
    status = json.loads(_penstock(environ, "status", "--json"))
    profile = configparser.ConfigParser()
    profile.read(status["config_file"])
    return Stack(environ, status["host"], profile["DEFAULT"]["token"], status["mlflow"])


def _wait_until_ready(client: httpx.Client, endpoint: str) -> None:
    give_up_at = time.monotonic() + DEPLOY_TIMEOUT_S
    while True:
        found = client.get(f"/api/2.0/serving-endpoints/{endpoint}").raise_for_status().json()
        if found["state"]["ready"] == "READY" and found["state"]["config_update"] == "NOT_UPDATING":
            return
        if found["state"]["config_update"] == "UPDATE_FAILED" or time.monotonic() > give_up_at:
            raise DeployFailed(json.dumps(found))
        time.sleep(0.2)


def _penstock(environ: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "services.cli", *arguments]
    ran = subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode:
        raise DeployFailed(f"penstock {arguments[0]}: {ran.stdout[-1000:]}{ran.stderr[-1000:]}")
    return ran.stdout
