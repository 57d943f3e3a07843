"""What is typed wrongly is told before anything is sent: exit 2."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.endpoints import endpoints, only_entity
from services.cli.failures import StackFailure
from services.cli.typed_bodies import read_query


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["create", "churn"], "name a model", id="no model"),
        pytest.param(["create", "churn", "churn/3"], "is no version of a model", id="no version"),
        pytest.param(["update", "churn", "models:/a/1", "models:/a/2"], "need their shares", id="no shares"),
        pytest.param(["create", "churn", "models:/a/1", "--file", "-"], "goes with it", id="a model beside a whole body"),
        pytest.param(["update", "churn", "--file", "-", "--workload-size", "Small"], "goes with it", id="a size beside a whole body"),
        pytest.param(["create", "churn", "--file", "-"], "no JSON", id="a body that is no JSON"),
        pytest.param(["get", "churn", "--host", "h"], "a host needs its token", id="a host without a token"),
        pytest.param(["events", "churn", "--limit", "0"], "equal to 1", id="no events"),
    ],
)
def test_what_cannot_be_meant_is_exit_2(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_TOKEN", raising=False)
    result = CliRunner().invoke(endpoints, arguments, input="{nope", env={"COLUMNS": "500"})
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("name", "media_type"), [("rows.csv", "text/csv"), ("rows.json", "application/json"), ("rows", "application/json")]
)
def test_a_file_is_sent_as_it_is(name: str, media_type: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(b"x\n\xff\n")
    assert read_query(f"@{file}") == (b"x\n\xff\n", media_type)


def test_a_body_is_sent_as_it_is() -> None:
    assert read_query('{"inputs": [1]}') == (b'{"inputs": [1]}', "application/json")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackFailure, match=r"rows\.csv cannot be read: No such file"):
        read_query(f"@{tmp_path / 'rows.csv'}")


def test_the_only_entity_needs_no_name() -> None:
    one = {"name": "churn", "config": {"served_entities": [{"name": "old"}]}, "pending_config": {"served_entities": [{"name": "new"}]}}
    assert only_entity(one) == "new"
