from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from services.cli.status import age, show_status

ENDPOINTS = ("5e090088725d4ea69812363f5619cfd1", "00000088725d4ea69812363f5619cfd1")


def process(name: str, state: str = "ready") -> dict[str, Any]:
    return {"name": name, "state": state, "pid": 4_194_303, "restarts": 12, "uptime_s": 86_399.0, "log": ""}


def shown(*processes: dict[str, Any], problems: tuple[str, ...] = ()) -> list[str]:
    places = dict.fromkeys(("host", "config_file", "mlflow", "kafka", "redis", "tables", "logs"), "x")
    console = Console(file=StringIO(), width=80)
    show_status(console, {"phase": "ready", "uptime_s": 1.0, "problems": list(problems), "processes": list(processes), **places})
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_every_row_is_one_whole_line_of_80_columns() -> None:
    entity = "a_model_with_a_long_name-17"
    replicas = [process(f"scorer-{endpoint}-{entity}-12-refusing", "backing-off") for endpoint in ENDPOINTS]
    lines = shown(process("ingress-0", "backing-off"), process("logger", "backing-off"), *replicas)
    rows = [line for line in lines if "backing-off" in line]
    assert len(rows) == 4
    assert all(line.endswith(("REST API", "inference tables", " 12")) for line in rows)
    assert max(len(line) for line in lines) <= 80


def test_the_endpoint_is_shown_only_where_the_entity_does_not_tell_it() -> None:
    assert not any("endpoint" in line for line in shown(process(f"scorer-{ENDPOINTS[0]}-fraud-1-1-0")))
    lines = shown(*(process(f"scorer-{endpoint}-fraud-1-1-0") for endpoint in ENDPOINTS))
    assert [line.split()[:2] for line in lines[-2:]] == [["fraud-1", "000000…"], ["fraud-1", "5e0900…"]]


def test_a_problem_stands_before_everything_else() -> None:
    assert shown(problems=("the disk is nearly full",))[1] == "! the disk is nearly full"


def test_what_a_process_cannot_do_now_stands_at_the_top() -> None:
    assert shown(process("logger") | {"trouble": "No space is left."})[1] == "! logger: No space is left."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.9, "59 s"), (114, "1m 54s"), (7_260, "2h 1m"), (266_400, "3d 2h")],
    ids=["at once", "never 60 s", "minutes", "hours", "days"],
)
def test_age(seconds: float, said: str) -> None:
    assert age(seconds) == said
