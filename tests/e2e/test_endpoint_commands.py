"""`penstock deploy` and `penstock endpoints …` as processes, against a running stack."""

import json
import subprocess
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.e2e.conftest import Models, Stack

ROWS = '{"dataframe_records": [{"x": 1}, {"x": 2.5}]}'


@pytest.fixture
def name(stack: Stack, models: Models) -> Iterator[str]:
    """As `penstock deploy` calls the endpoint of that model."""
    yield models.name
    with stack.client() as client:
        client.delete(f"/api/2.0/serving-endpoints/{models.name}")


def words(done: "CompletedProcess[str]") -> list[list[str]]:
    """The lines of what a command printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_an_endpoint_is_made_asked_changed_watched_and_deleted(stack: Stack, models: Models, name: str) -> None:
    def endpoints(*arguments: str) -> "CompletedProcess[str]":
        return stack.penstock("endpoints", *arguments)

    def answer(*arguments: str) -> Any:
        done = endpoints(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    two, three = (f"models:/{models.name}/{version}" for version in (models.double, models.triple))
    made = stack.penstock("deploy", two, "--no-scale-to-zero", "--env", "CANARY=hunter2")
    assert words(made)[0][:3] == [name, "serves", two]
    assert f"{models.name}-{models.double}: ready" in made.stderr, "progress goes to standard error"
    curl, penstock = made.stdout.splitlines()[-2:]
    assert stack.token not in made.stdout
    pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=False)
    assert json.loads(pasted.stdout) == {"predictions": [2.0]}, pasted.stderr
    assert penstock.startswith(f"penstock endpoints query {name} ")
    assert "runs with CANARY, whose values nobody can read back" in stack.penstock("deploy", three).stderr
    assert words(endpoints("query", name, ROWS)) == [
        ["row", "prediction"],
        ["0", "2.0"],
        ["1", "5.0"],
        ["answered", "by", f"{models.name}-{models.double}"],
    ]
    changed = answer("update", name, two, three, "--traffic", "0,100")
    assert [route["traffic_percentage"] for route in changed["config"]["traffic_config"]["routes"]] == [0, 100]
    assert answer("query", name, ROWS) == {"predictions": [3.0, 7.5]}
    assert answer("query", name, ROWS, "--served-entity", f"{models.name}-{models.double}") == {"predictions": [2.0, 5.0]}
    assert [line[1] for line in words(endpoints("list")) if line[0] == name] == ["Ready"]
    entity = f"{models.name}-{models.double}"
    calls = {
        sample["labels"].get("served_entity"): sample["value"]
        for sample in answer("metrics", name)
        if sample["name"] == "request_count_total"
    }
    assert calls[entity] >= 2
    assert next(line for line in words(endpoints("metrics", name)) if line[0] == entity)[-1] == "ms"
    assert "hunter2" not in endpoints("get", name, "--json").stdout

    failed = endpoints("update", name, f"models:/{models.name}/{models.unloadable}")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"the update of '{name}' failed: The model cannot be loaded: RuntimeError: the weights are not here" in failed.stderr
    assert "the weights are not here" in endpoints("logs", name, "--build").stdout
    assert [event["status"] for event in answer("events", name, "--limit", "2")] == ["FAILED", "FAILED"]

    assert answer("stop", name)["state"]["ready"] == "NOT_READY"
    stopped = endpoints("query", name, ROWS)
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1), stopped.stderr
    assert answer("start", name, "--no-wait")["state"]["config_update"] == "IN_PROGRESS"
    assert words(endpoints("delete", name)) == []
    gone = endpoints("get", name)
    assert (gone.returncode, gone.stderr) == (1, f"penstock: Endpoint with name '{name}' does not exist.\n")
    assert answer("create", name, two, "--no-wait")["pending_config"]["config_version"] == 1


def test_a_host_and_a_token_name_another_caller(stack: Stack) -> None:
    eve = stack.penstock("token", "create", "eve@example.org").stdout.strip()
    assert json.loads(stack.penstock("endpoints", "list", "--json", "--host", stack.host, "--token", eve).stdout) == []
    refused = stack.penstock("endpoints", "list", "--token", "dapi-wrong")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("penstock: ")
    assert "dapi-wrong" not in refused.stderr
