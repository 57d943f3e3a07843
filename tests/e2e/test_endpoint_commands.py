"""`penstock deploy`, `endpoints` and `permissions` as processes, against a running stack."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
    assert "what serves runs with CANARY, whose values nobody can read back" in stack.penstock("deploy", three).stderr
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
    assert len(next(line for line in words(endpoints("metrics", name)) if line[0] == entity)) == 10
    assert "hunter2" not in endpoints("get", name, "--json").stdout
    beside = ThreadPoolExecutor(1)
    watched = beside.submit(stack.penstock, "top")

    failed = endpoints("update", name, f"models:/{models.name}/{models.unloadable}")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"the update of '{name}' failed: The model cannot be loaded: RuntimeError: the weights are not here" in failed.stderr
    assert "the weights are not here" in endpoints("logs", name, "--build").stdout
    assert [event["status"] for event in answer("events", name, "--limit", "2")] == ["FAILED", "FAILED"]

    assert [name, entity, "1", "steady"] in [[*line[:2], *line[-2:]] for line in words(watched.result()) if len(line) > 3]
    beside.shutdown()

    assert answer("stop", name)["state"]["ready"] == "NOT_READY"
    stopped = endpoints("query", name, ROWS)
    assert (stopped.returncode, stopped.stderr.count("\n")) == (1, 1), stopped.stderr
    assert answer("start", name, "--no-wait")["state"]["config_update"] == "IN_PROGRESS"
    assert answer("cancel", name)["state"]["config_update"] == "UPDATE_CANCELED"
    assert words(endpoints("delete", name)) == []
    gone = endpoints("get", name)
    assert (gone.returncode, gone.stderr) == (1, f"penstock: Endpoint with name '{name}' does not exist.\n")


def test_others_do_what_the_permissions_commands_gave_them(stack: Stack, models: Models, name: str, tmp_path: Path) -> None:
    def eves(*arguments: str) -> "CompletedProcess[str]":
        return stack.penstock("endpoints", *arguments, "--host", stack.host, "--token", eve)

    eve = stack.penstock("token", "create", "typist@example.org").stdout.strip()
    body = tmp_path / "body.json"
    entity = {"entity_name": models.name, "entity_version": models.double}
    body.write_text(json.dumps({"config": {"served_entities": [entity]}, "description": "from a file"}))
    made = stack.penstock("endpoints", "create", name, "--file", str(body), "--no-wait", "--json")
    assert json.loads(made.stdout)["description"] == "from a file", made.stderr
    assert json.loads(eves("list", "--json").stdout) == []
    given = words(stack.penstock("permissions", "set", name, "typist@example.org=CAN_VIEW", "group:users=CAN_VIEW"))
    assert given[1:] == [["typist@example.org", "user", "CAN_VIEW"], ["users", "group", "CAN_VIEW"]]
    assert words(stack.penstock("permissions", "update", name, "typist@example.org=CAN_QUERY"))[1][-1] == "CAN_QUERY"
    read = json.loads(stack.penstock("permissions", "get", name, "--json").stdout)
    assert [entry["all_permissions"][0]["permission_level"] for entry in read["access_control_list"]] == ["CAN_QUERY", "CAN_VIEW"]
    denied = eves("delete", name)
    assert (denied.returncode, "this needs CAN_MANAGE" in denied.stderr) == (1, True)
    known = {user["principal"]: user for user in json.loads(stack.penstock("user", "list", "--json").stdout)}
    assert (known["typist@example.org"]["tokens"], known["admin"]["groups"]) == (1, ["admins"])
    refused = stack.penstock("endpoints", "list", "--token", "dapi-wrong")
    assert (refused.returncode, refused.stdout, refused.stderr.startswith("penstock: ")) == (1, "", True)
    assert "dapi-wrong" not in refused.stderr
