import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli.batch import batches
from services.cli.batch_orders import order_of
from services.cli.batch_progress import Lines, estimate_of, follow
from services.cli.batch_views import batch_table, detail_view, outcome_of
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.workspace import Workspace


def batch(state: str = "RUNNING", rows: int | None = 1_000, succeeded: int = 0, failed: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"succeeded": succeeded, "failed": failed} | ({} if rows is None else {"rows": rows})
    made = {"batch_id": "b-1", "endpoint_name": "churn", "creator": "ada", "creation_timestamp": 1_700_000_000_000}
    return made | {"state": state, "counts": counts} | more


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([], "a file, --table or --sql, one of them", id="no rows"),
        pytest.param(["rows.csv", "--sql", "select 1"], "a file, --table or --sql, one of them", id="two sources"),
        pytest.param(["rows.xlsx"], "is none of .ndjson, .jsonl, .csv, .parquet, .json", id="a file nobody reads"),
        pytest.param(["--table", "a.b.c", "--host", "h"], "a host needs its token", id="a host without a token"),
    ],
)
def test_what_cannot_be_meant_is_exit_2(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_TOKEN", raising=False)
    result = CliRunner().invoke(batches, ["submit", "churn", *arguments], env={"COLUMNS": "500"})
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        pytest.param("rows.ndjson", "application/x-ndjson", id="NDJSON"),
        pytest.param("rows.jsonl", "application/x-ndjson", id="by its other name"),
        pytest.param("rows.CSV", "text/csv", id="CSV"),
        pytest.param("rows.parquet", "application/vnd.apache.parquet", id="Parquet"),
        pytest.param("body.json", "application/json", id="a scoring body"),
    ],
)
def test_a_file_is_sent_as_it_is_and_as_it_is_read(name: str, media_type: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x\n\xff\n")
    with order_of(tmp_path / name, None, None, "main.a.b") as order:
        assert not isinstance(order.content, bytes)
        assert (order.content.read(), order.media_type, order.parameters) == (b"x\n\xff\n", media_type, {"output_table": "main.a.b"})


@pytest.mark.parametrize(
    ("table", "sql", "source"),
    [
        pytest.param("main.a.b", None, {"table": "main.a.b"}, id="a table"),
        pytest.param(None, "select 1", {"sql": "select 1"}, id="a query"),
    ],
)
def test_what_is_read_there_is_named(table: str | None, sql: str | None, source: dict[str, str]) -> None:
    with order_of(None, table, sql, None) as order:
        assert isinstance(order.content, bytes)
        assert (json.loads(order.content), order.media_type, order.parameters) == ({"source": source}, "application/json", {})


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackFailure, match=r"rows\.csv cannot be read: No such file"), order_of(tmp_path / "rows.csv", None, None, None):
        pass


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        pytest.param(batch("SUCCEEDED", succeeded=1_000), "1,000 of 1,000 rows were scored", id="all"),
        pytest.param(batch("SUCCEEDED", succeeded=998, failed=2), "998 of 1,000 rows were scored, 2 have an error", id="not all"),
        pytest.param(batch("FAILED", message="No rows."), "batch b-1 failed: No rows.", id="none"),
        pytest.param(batch("CANCELED"), "batch b-1 was canceled", id="canceled"),
    ],
)
def test_how_a_batch_ended_is_one_line(ended: dict[str, Any], said: str) -> None:
    assert outcome_of(ended) == said


def printed(view: Any) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=200)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_a_batch_is_shown_with_what_is_known_of_it() -> None:
    known = batch(succeeded=10, failed=1, source={"kind": "TABLE", "table": "main.a.b"}, output_table="main.a.c", message="[red]x")

    lines = printed(detail_view(known))

    assert lines[0] == ["b-1", "·", "running"]
    assert ["rows", "of", "main.a.b"] in lines
    assert ["rows", "1,000:", "10", "scored,", "1", "with", "an", "error"] in lines
    assert ["table", "main.a.c"] in lines
    assert ["message", "[red]x"] in lines
    assert ["rows", "0", "scored,", "0", "with", "an", "error"] in printed(detail_view(batch("PENDING", rows=None)))
    assert printed(batch_table([known]))[1][:6] == ["b-1", "running", "1,000", "10", "1", "ada"]


class Answering(Workspace):
    """A workspace that gives these answers, one a call."""

    def __init__(self, *answers: dict[str, Any] | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def get(self, path: str, **parameters: str | int | None) -> Any:
        self.asked.append(path)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_who_waits_sees_how_far_it_is_and_how_it_ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    busy = ApiRefusal("later", "TEMPORARILY_UNAVAILABLE", 503, retry_after_s=7.0)
    workspace = Answering(batch(succeeded=1), busy, batch(succeeded=500), batch("SUCCEEDED", succeeded=1_000))

    ended = follow(workspace, batch("PENDING", rows=None))

    assert ended["state"] == "SUCCEEDED"
    assert (set(workspace.asked), 7.0 in slept) == ({"/api/2.0/serving-endpoints/churn/batches/b-1"}, True)
    told = capsys.readouterr().err.splitlines()
    assert told == ["pending: 0 rows", "running: 1 of 1,000 rows", "succeeded: 1,000 of 1,000 rows"], "a line a state, not a call"


def test_an_estimate_is_told_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    assert estimate_of(batch(estimated_end_timestamp=1_700_000_060_000)).startswith("until about 2023-11-")
    assert estimate_of(batch(estimated_end_timestamp=1_699_999_999_000)) == estimate_of(batch()) == ""


def test_a_refusal_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(ApiRefusal, match="gone"):
        follow(Answering(ApiRefusal("gone", "RESOURCE_DOES_NOT_EXIST", 404)), batch())


def test_a_line_comes_now_and_then_where_no_bar_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=200)
    lines = Lines(console)
    for now[0], succeeded in ((0.0, 0), (5.0, 100), (10.0, 200), (12.0, 300)):
        lines.show(batch(succeeded=succeeded))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == ["running: 0 of 1,000 rows", "running: 200 of 1,000 rows"]
