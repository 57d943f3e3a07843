"""`penstock batch` as a process, against a running stack: files, a query and a table in, files and a table out."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow.parquet as pq

from services.shared.queries import run_query
from tests.e2e.conftest import CATALOG, SCHEMA, Deployed, Stack

ROWS = 300


def test_a_batch_is_submitted_watched_and_read(stack: Stack, deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    endpoint = deploy()
    scores, again = (f"{CATALOG}.{SCHEMA}.{endpoint.name}_{name}" for name in ("scores", "again"))

    def batch(command: str, *arguments: str) -> "CompletedProcess[str]":
        return stack.penstock("batch", command, endpoint.name, *arguments)

    def submitted(*arguments: str) -> Any:
        done = batch("submit", *arguments, "--wait", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    lines = [json.dumps({"x": x, "who": f"customer {x}"}) for x in range(ROWS)]
    (tmp_path / "rows.ndjson").write_text("\n".join([*lines, "oops", '{"x": -1}', ""]))
    first = submitted(str(tmp_path / "rows.ndjson"), "--output-table", scores)
    assert (first["state"], first["counts"]) == ("SUCCEEDED", {"rows": ROWS + 2, "succeeded": ROWS, "failed": 2})

    told = [json.loads(line) for line in batch("results", first["batch_id"]).stdout.splitlines()]
    assert [(row["x"], row["prediction"]) for row in told] == [*((x, 2.0 * x) for x in range(ROWS)), (None, None), (-1, None)]
    assert [row["error"] and row["error"]["error_code"] for row in told[-3:]] == [None, "INVALID_PARAMETER_VALUE", "BAD_REQUEST"]
    assert told[-2]["error"]["message"].startswith(f"Line {ROWS + 1} cannot be parsed as JSON")
    found = run_query(stack.tables, f"select count(*) as n, count(error) as errors, sum(prediction) as total from {scores}")
    assert found.to_pylist() == [{"n": ROWS + 2, "errors": 2, "total": float(ROWS * (ROWS - 1))}]

    second = submitted("--sql", f"select prediction as x, who from {scores} where error is null", "--output-table", again)
    assert second["counts"] == {"rows": ROWS, "succeeded": ROWS, "failed": 0}
    read = batch("results", second["batch_id"], "-o", str(tmp_path / "scored.parquet"))
    assert (read.returncode, read.stdout) == (0, ""), read.stderr
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert scored.schema.names == ["x", "who", "prediction", "error", "served_entity"]
    assert sorted(scored["prediction"].to_pylist()) == [4.0 * x for x in range(ROWS)]

    assert batch("submit", "--table", again).returncode == 0
    waited = batch("wait")
    assert (waited.returncode, "succeeded" in waited.stdout) == (0, True), waited.stderr
    assert {"input_prediction", "prediction"} < json.loads(batch("results").stdout.splitlines()[0]).keys()
    (tmp_path / "rows.csv").write_text('who,x\n"a, b",1.5\nc,2\nd,e,f\n')
    third = submitted(str(tmp_path / "rows.csv"))
    told = [json.loads(line) for line in batch("results", third["batch_id"]).stdout.splitlines()]
    assert [(row["who"], row["x"], row["prediction"]) for row in told] == [("a, b", 1.5, 3.0), ("c", 2.0, 4.0), (None, None, None)]
    (tmp_path / "empty.csv").write_text("x\n")
    failed = batch("submit", str(tmp_path / "empty.csv"), "--wait")
    assert (failed.returncode, "The input holds no rows." in failed.stderr) == (1, True), failed.stderr
    states = [entry["state"] for entry in json.loads(batch("list", "--json").stdout)]
    assert states == ["FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
