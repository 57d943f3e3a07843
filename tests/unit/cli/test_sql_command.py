import json
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from services.cli.sql import shortened, sql, to_cell

ROWS = pa.table({"entity": ["churn-1", None], "n": [3, 4], "codes": [["A"], []]})
app = typer.Typer()
app.command()(sql)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path))
    monkeypatch.setattr("services.shared.queries.run_query", lambda _tables, _query: ROWS)


@pytest.mark.usefixtures("printed")
def test_json_is_one_object_per_line() -> None:
    lines = CliRunner().invoke(app, ["select", "--json"]).stdout.splitlines()
    assert [json.loads(line) for line in lines] == ROWS.to_pylist()


@pytest.mark.usefixtures("printed")
def test_csv_has_a_header_and_an_empty_cell_for_null() -> None:
    assert CliRunner().invoke(app, ["select", "--csv"]).stdout.splitlines() == ["entity,n,codes", 'churn-1,3,"[""A""]"', ",4,[]"]


@pytest.mark.usefixtures("printed")
def test_people_get_a_table_with_its_count() -> None:
    shown = CliRunner().invoke(app, ["select"]).stdout
    assert "churn-1" in shown
    assert "2 rows" in shown


def test_a_query_that_cannot_run_is_one_line_and_exit_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path))
    result = CliRunner().invoke(app, ["select * from a.b.c"])
    assert (result.exit_code, result.stderr) == (1, "There is no table a.b.c. There are no inference tables yet.\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, "", id="null is empty"),
        pytest.param(["A"], '["A"]', id="a list is JSON"),
        pytest.param("x" * 61, "x" * 59 + "…", id="a long text is cut"),
    ],
)
def test_a_cell_is_short(value: object, expected: str) -> None:
    assert shortened(to_cell(value)) == expected
