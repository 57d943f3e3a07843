"""`penstock tables …` over real tables, as the logger writes them; and that other engines open them."""

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from services.cli.failures import StackFailure
from services.cli.tables import tables, to_size
from services.logger.rows import COLUMNS
from services.logger.settings import LoggerSettings
from services.logger.table import Delivery, InferenceTable
from services.shared.envelope import new_request_id
from tests.unit.logger.outcomes import TYPICAL

NAME = "main.churn.scores_payload"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path))
    place = tmp_path.joinpath("tables", *NAME.split("."))
    table = InferenceTable(place, LoggerSettings())
    table.append([Delivery(0, 0, replace(TYPICAL, request_id=new_request_id()))])
    table.append([Delivery(0, n, replace(TYPICAL, request_id=new_request_id())) for n in (1, 2)])
    return place


def said(*arguments: str) -> str:
    result = CliRunner().invoke(tables, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("place")
def test_the_tables_there_are() -> None:
    (found,) = json.loads(said("list", "--json"))
    assert (found["name"], found["rows"], found["files"], found["version"]) == (NAME, 3, 2, 2)
    row = next(line for line in said("list").splitlines() if NAME in line)
    assert row.split()[1:3] == ["3", "2"]


def test_a_table_is_described(place: Path) -> None:
    found = json.loads(said("describe", NAME, "--json"))
    assert [column["name"] for column in found["columns"]] == COLUMNS.names
    assert (found["location"], found["partitioned_by"], found["properties"]["delta.appendOnly"]) == (str(place), ["request_date"], "true")
    assert "databricks_request_id" in said("describe", NAME)


@pytest.mark.usefixtures("place")
def test_the_history_is_newest_first_and_counts_rows() -> None:
    commits = json.loads(said("history", NAME, "--json"))
    assert [(commit["version"], commit["rows"]) for commit in commits] == [(2, 2), (1, 1), (0, None)]
    assert json.loads(said("history", NAME, "--limit", "1", "--json")) == commits[:1]
    assert "WRITE" in said("history", NAME)


@pytest.mark.usefixtures("place")
def test_a_table_that_is_not_there_is_one_line() -> None:
    with pytest.raises(StackFailure, match="there is no table main"):
        CliRunner().invoke(tables, ["describe", "main.churn.other"], catch_exceptions=False)


def test_pandas_polars_and_duckdb_open_it(place: Path) -> None:
    assert list(DeltaTable(place).to_pandas().columns) == COLUMNS.names
    assert polars.read_delta(str(place)).columns == COLUMNS.names
    with duckdb.connect() as connection:
        connection.register("rows", DeltaTable(place).to_pyarrow_dataset())
        assert connection.execute("select count(*) from rows").fetchall() == [(3,)]


def test_the_change_data_feed_tells_what_was_logged_in_which_version(place: Path) -> None:
    feed = pa.table(DeltaTable(place).load_cdf(starting_version=0).read_all())
    assert sorted(feed["_commit_version"].to_pylist()) == [1, 2, 2]
    assert set(feed["_change_type"].to_pylist()) == {"insert"}


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")]
)
def test_sizes(size: int, shown: str) -> None:
    assert to_size(size) == shown
