"""The systems that are compared: how each is started on a saved model, asked, and understood."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from bench.cpu import CpuTimes, family_cpu_times
from bench.load import Target
from bench.models import COLUMNS, arrays_body, request_body, row
from bench.places import BUILT, PEERS
from services.cli.ports import LOOPBACK, free_port

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


class SystemFailed(Exception):
    """It did not start, or does not answer what the model predicts."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The peer's best of those tried on two cores; see bench/README.md. `wait_s` is how long a batch may wait for company."""

    workers: int = 1
    max_batch: int = 64
    wait_s: float = 0.005


@dataclass(frozen=True, slots=True)
class Start:
    """What it takes to start it: the model's folder, a port, a folder of its own."""

    model: Path
    port: int
    scratch: Path
    tuning: Tuning

    def arguments(self) -> list[str]:
        return [str(self.model), str(self.port), str(self.tuning.workers), str(self.tuning.max_batch), str(self.tuning.wait_s)]


@dataclass(frozen=True, slots=True)
class Peer:
    """`command` may write files into the scratch folder. `variables` are added to the environment."""

    name: str
    command: Callable[[Start], list[str]]
    tuning: Tuning = Tuning()
    path: str = "/invocations"
    body: Callable[[], bytes] = request_body
    predictions: Callable[[Any], Any] = lambda answer: answer["predictions"]
    variables: Callable[[Start], Mapping[str, str]] = lambda start: MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers, and a look at the CPU time of its processes."""

    target: Target
    cpu_times: Callable[[], CpuTimes]


def environment_of(name: str) -> Path:
    return BUILT / "environments" / name


@contextmanager
def running_peer(peer: Peer, model: Path, expected: Any) -> Iterator[Running]:
    """Start it, wait until it answers what the model predicts, stop it and whatever it left."""
    scratch = BUILT / "scratch" / peer.name
    scratch.mkdir(parents=True, exist_ok=True)
    start = Start(model, free_port(), scratch, peer.tuning)
    body = scratch / "body.json"
    body.write_bytes(peer.body())
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    variables |= {"PATH": f"{environment_of(peer.name) / 'bin'}:{os.environ['PATH']}", **peer.variables(start)}
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            peer.command(start), cwd=scratch, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    target = Target(f"http://{LOOPBACK}:{start.port}{peer.path}", body)
    try:
        _wait_for_answer(peer, target, process, expected, scratch / "log")
        yield Running(target, lambda: family_cpu_times(process.pid, peer.name))
    finally:
        _stop(process)


def _wait_for_answer(peer: Peer, target: Target, process: "subprocess.Popen[bytes]", expected: Any, log: Path) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    body, said = target.body_file.read_bytes(), ""
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            answer = httpx.post(target.url, content=body, headers={"Content-Type": target.content_type}, timeout=30)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        said = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code == 200:
            if peer.predictions(answer.json()) != expected:
                raise SystemFailed(f"{peer.name} answers {answer.text[:300]} where the model predicts {expected}")
            return
        time.sleep(0.2)
    raise SystemFailed(f"{peer.name} does not answer: {said}\n{log.read_text(errors='replace')[-1500:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Its own way first; what is left of what it started is killed by pid."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, STOP_TIMEOUT_S)
        for survivor in left:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
    process.wait()


def python_of(name: str) -> str:
    return str(environment_of(name) / "bin" / "python")


def _mlflow(start: Start) -> list[str]:
    serve = [python_of("mlflow"), "-m", "mlflow", "models", "serve", "-m", str(start.model), "-p", str(start.port)]
    return [*serve, "-h", LOOPBACK, "--env-manager", "local", "-w", str(start.tuning.workers)]


def _mlserver(start: Start) -> list[str]:
    tuning = start.tuning
    model = {
        "name": "model",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "max_batch_size": tuning.max_batch,
        "max_batch_time": tuning.wait_s,
        "parameters": {"uri": str(start.model)},
    }
    ports = {"http_port": start.port, "grpc_port": free_port(), "metrics_port": free_port()}
    server = {"host": LOOPBACK, **ports, "parallel_workers": tuning.workers, "debug": False, "metrics_endpoint": None}
    (start.scratch / "model-settings.json").write_text(json.dumps(model))
    (start.scratch / "settings.json").write_text(json.dumps(server))
    return [str(environment_of("mlserver") / "bin" / "mlserver"), "start", str(start.scratch)]


def _v2_body() -> bytes:
    """The same row in the Open Inference Protocol, which is what MLServer batches: one column an input."""
    inputs = [{"name": column, "shape": [1, 1], "datatype": "FP64", "data": [value]} for column, value in zip(COLUMNS, row(), strict=True)]
    return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}).encode()


def _v2_predictions(answer: Any) -> Any:
    outputs = answer["outputs"]
    if len(outputs) > 1:  # a frame: one output a column
        return [{o["name"]: o["data"][i] for o in outputs} for i in range(len(outputs[0]["data"]))]
    return outputs[0]["data"]


def _array_predictions(answer: Any) -> Any:
    """BentoML answers an array; rows of an echo come without their columns' names."""
    return [dict(zip(COLUMNS, values, strict=True)) if isinstance(values, list) else values for values in answer]


def _bentoml(start: Start) -> list[str]:
    serve = [str(environment_of("bentoml") / "bin" / "bentoml"), "serve", "service:Model", "--working-dir", str(PEERS / "bentoml")]
    return [*serve, "--host", LOOPBACK, "--port", str(start.port)]


def _bentoml_variables(start: Start) -> Mapping[str, str]:
    tuning = start.tuning
    settings = {"WORKERS": tuning.workers, "MAX_BATCH": tuning.max_batch, "BATCH_WAIT_S": tuning.wait_s, "MODEL": start.model}
    return {**{f"BENCH_{name}": str(value) for name, value in settings.items()}, "BENTOML_DO_NOT_TRACK": "true"}


def _uvicorn(start: Start) -> list[str]:
    serve = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(PEERS / "uvicorn"), "--host", LOOPBACK]
    return [*serve, "--port", str(start.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]


PEERS_BY_NAME: Mapping[str, Peer] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            Peer("mlflow", _mlflow, Tuning(workers=2)),
            Peer("mlserver", _mlserver, Tuning(max_batch=256), path="/v2/models/model/infer", body=_v2_body, predictions=_v2_predictions),
            Peer(
                "bentoml",
                _bentoml,
                Tuning(workers=2, wait_s=10.0),
                body=arrays_body,
                predictions=_array_predictions,
                variables=_bentoml_variables,
            ),
            Peer("ray", lambda s: [python_of("ray"), str(PEERS / "ray" / "serve_model.py"), *s.arguments()], Tuning(wait_s=0.02)),
            Peer("litserve", lambda s: [python_of("litserve"), str(PEERS / "litserve" / "serve.py"), *s.arguments()], Tuning(wait_s=0.001)),
        )
    }
)
ECHO_CEILING = Peer("uvicorn", _uvicorn, predictions=lambda answer: answer)
