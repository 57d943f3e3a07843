"""The stack as its owner sees it: it comes up, survives deaths, goes without a trace, and says what is wrong in one line."""

import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config

from services.cli.admin_token import read_token
from tests.certificates import write_certificate
from tests.e2e.conftest import Stack
from tests.e2e.own_stack import OwnStack


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[OwnStack]:
    """Not started yet; gone after the test."""
    stack = OwnStack(tmp_path)
    yield stack
    stack.down()


def wait_for(what: str, holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)


def alive(processes: list[psutil.Process]) -> list[str]:
    return [str(p) for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def is_back(stack: OwnStack, name: str, old_pid: int) -> bool:
    process = stack.process(name)
    return bool(process["state"] == "ready" and process["pid"] != old_pid)


def listens(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((urlsplit(address).hostname, urlsplit(address).port)) == 0


def test_up_serves_beside_another_and_down_leaves_nothing(stack: Stack, own_stack: OwnStack, tmp_path: Path) -> None:
    own_stack.up()
    refuses(own_stack, "is ready already")
    status = own_stack.status()
    assert {process["state"] for process in stack.status()["processes"]} == {"ready"}
    assert status["host"] != stack.host
    assert {process["state"] for process in status["processes"]} == {"ready"}
    asked = {process["name"]: process["health"] for process in status["processes"] if process["health"]}
    assert asked.keys() == {"ingress-0", "submissions", "scaler", "logger"}
    assert [httpx.get(f"{health}/health/live", trust_env=False).status_code for health in asked.values()] == [200] * 4
    assert not [process for process in status["processes"] if process["trouble"]]
    config_file = Path(status["config_file"])
    assert stat.S_IMODE(config_file.stat().st_mode) == 0o600
    answer = httpx.get(
        f"{status['host']}/api/2.0/serving-endpoints", headers={"Authorization": f"Bearer {read_token(config_file)}"}, trust_env=False
    )
    assert answer.status_code == 200
    processes = own_stack.everything()
    assert len(processes) >= 8  # supervisor, keeper, three servers, three services
    sessions = {os.getsid(process.pid) for process in processes if "keeper.py" not in " ".join(process.cmdline())}
    assert sessions == {processes[0].pid}, "niceness counts within a session"

    own_stack.down()
    assert alive(processes) == []
    assert not any(listens(address) for address in (status["host"], status["mlflow"], status["redis"], f"kafka://{status['kafka']}"))

    certificate, key = write_certificate(tmp_path / "tls", "localhost")
    tls = {"PENSTOCK_INGRESS_TLS_CERTIFICATE": str(certificate), "PENSTOCK_INGRESS_TLS_KEY": str(key)}
    own_stack.environment |= tls | {"PENSTOCK_INGRESS_HOST": "0.0.0.0"}
    token = read_token(config_file)
    own_stack.up()
    assert read_token(config_file) == token
    serves_by_tls(own_stack)


def serves_by_tls(stack: OwnStack) -> None:
    status = stack.status()
    assert status["host"].startswith("https://localhost:")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("REQUESTS_CA_BUNDLE", status["ca_bundle"])
        workspace = WorkspaceClient(config=Config(config_file=status["config_file"]))
        assert list(workspace.serving_endpoints.list()) == []
    listed = stack.run("endpoints", "list", "--json")
    assert (listed.returncode, listed.stdout) == (0, "[]\n"), listed.stderr
    with pytest.raises(httpx.TransportError):
        httpx.get(status["host"].replace("https:", "http:"), trust_env=False)
    ingress_log = Path(status["logs"], "ingress-0.log").read_text()
    assert "Traceback" not in ingress_log


def test_a_killed_process_is_started_again_and_a_killed_supervisor_leaves_nothing(own_stack: OwnStack) -> None:
    own_stack.up()
    for name in ("redis", "ingress-0"):  # of Kafka `test_faults.py` sees as much
        pid = own_stack.process(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{name} ready again", partial(is_back, own_stack, name, pid), 30)
        assert own_stack.process(name)["restarts"] == 1

    keeper = next(p for p in own_stack.everything() if "keeper.py" in " ".join(p.cmdline()))
    keeper.kill()
    wait_for("another keeper", lambda: any("keeper.py" in " ".join(p.cmdline()) and p != keeper for p in own_stack.everything()), 10)

    processes = own_stack.everything()
    os.kill(own_stack.status()["supervisor"], signal.SIGKILL)
    wait_for("nothing left", lambda: alive(processes) == [], 15)
    own_stack.up()  # and the folder is as good as before

    processes = own_stack.everything()
    keeper = next(p for p in processes if "keeper.py" in " ".join(p.cmdline()))
    processes[0].suspend()  # so that it starts no other keeper in between
    keeper.kill()
    processes[0].kill()
    assert len(alive(processes)) > 2
    own_stack.down()
    assert alive(processes) == []


def test_a_stack_that_cannot_start_says_why_in_one_line(own_stack: OwnStack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for part in ("KAFKA", "REDIS", "MLFLOW", "INGRESS"):
            refuses(own_stack, f"PENSTOCK_{part}_PORT", **{f"PENSTOCK_{part}_PORT": port})
    refuses(own_stack, "no such setting: PENSTOCK_FOO", PENSTOCK_FOO="1")
    refuses(own_stack, "PENSTOCK_INGRESS_TLS_CERTIFICATE", PENSTOCK_INGRESS_HOST="0.0.0.0")
    refuses(own_stack, "need each other", PENSTOCK_INGRESS_TLS_KEY="key.pem")
    refuses(own_stack, "Java 17", JAVA_HOME=str(tmp_path))
    refuses(own_stack, "PENSTOCK_KAFKA_BOOTSTRAP", PENSTOCK_KAFKA_BOOTSTRAP="127.0.0.1:1")
    refuses(own_stack, "too long", PENSTOCK_STATE=str(tmp_path / ("x" * 100)))
    done = own_stack.run("status")
    assert done.returncode != 0
    assert "no stack is running" in done.stderr


def refuses(stack: OwnStack, said: str, **variables: str) -> None:
    done = stack.run("up", **variables)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
