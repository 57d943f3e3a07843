"""The table writer on real Delta tables: exactly once, whoever else writes and whatever is done to the table."""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from services.logger.rows import COLUMNS, ID, LEGACY, LEGACY_COLUMNS
from services.logger.settings import LoggerSettings
from services.logger.table import Delivery, InferenceTable, TableBroken
from services.logger.upkeep import keep_up
from services.shared import queries
from services.shared.envelope import new_request_id
from services.shared.queries import Binding, MemoryExhausted, Part, QueryRefused, run_query
from services.shared.table_places import LOG
from tests.unit.logger.outcomes import TYPICAL, outcome

SETTINGS = LoggerSettings(compact_commits=1_000)
PAGE = Path(__file__).parents[3] / "docs" / "inference_tables.md"
OLD = TYPICAL.request_id  # made long before any window
INNER = "penstock_" + b"main.x.y".hex()  # what DuckDB knows that table as


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main" / "churn" / "scores_payload"


def deliveries(first_offset: int, *ids: str, partition: int = 0) -> list[Delivery]:
    return [Delivery(partition, first_offset + number, outcome(request_id)) for number, request_id in enumerate(ids)]


def ids(count: int) -> list[str]:
    return [new_request_id() for _ in range(count)]


def rows(path: Path) -> Counter[str]:
    return Counter(DeltaTable(path).to_pyarrow_table(columns=[ID])[ID].to_pylist())


def test_a_new_table_has_the_columns_the_properties_and_its_days_apart(path: Path) -> None:
    InferenceTable(path, SETTINGS)
    made = DeltaTable(path)
    assert pa.schema(made.schema().to_arrow()) == COLUMNS
    assert made.metadata().configuration == {
        "delta.appendOnly": "true",
        "delta.enableChangeDataFeed": "true",
        "delta.logRetentionDuration": "interval 21600 seconds",
        "delta.deletedFileRetentionDuration": "interval 129600 seconds",
    }
    assert made.metadata().partition_columns == ["request_date"]


def test_a_legacy_table_has_its_ten_columns_and_is_exactly_once_as_well(path: Path) -> None:
    sent = ids(3)
    legacy = [replace(d, outcome=replace(d.outcome, legacy=("churn", "scores", "3"))) for d in deliveries(10, *sent)]
    InferenceTable(path, SETTINGS, LEGACY).append(legacy)
    made = DeltaTable(path)
    assert pa.schema(made.schema().to_arrow()) == LEGACY_COLUMNS
    assert made.metadata().partition_columns == ["date"]
    assert InferenceTable(path, LoggerSettings(dedupe_window_s=1e-6), LEGACY).append(legacy).repeats == 3
    assert rows(path) == Counter(sent)
    model = run_query(path.parents[2], "select distinct request_metadata['model_name'] m from main.churn.scores_payload").to_pylist()
    assert model == [{"m": "scores"}]
    assert list(made.to_pandas().columns) == polars.read_delta(str(path)).columns == LEGACY_COLUMNS.names


def test_a_table_that_is_there_keeps_its_layout(path: Path) -> None:
    InferenceTable(path, SETTINGS).append(deliveries(1, *ids(1)))
    [delivery] = deliveries(2, *ids(1))
    InferenceTable(path, SETTINGS, LEGACY).append([replace(delivery, outcome=replace(delivery.outcome, legacy=("churn", "scores", "3")))])
    assert pa.schema(DeltaTable(path).schema().to_arrow()) == COLUMNS
    assert rows(path).total() == 2


def test_records_read_again_after_a_restart_add_nothing(path: Path) -> None:
    sent = ids(3)
    assert InferenceTable(path, SETTINGS).append(deliveries(10, *sent)).rows == 3
    again = InferenceTable(path, SETTINGS).append(deliveries(10, *sent))
    assert (again.rows, again.repeats) == (0, 3)
    assert rows(path) == Counter(sent)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SETTINGS, id="the id is in the window"),
        pytest.param(LoggerSettings(dedupe_window_s=1e-6), id="the id is older than the window"),
    ],
)
@pytest.mark.parametrize("reopened", [False, True], ids=["by the same writer", "by a new writer"])
def test_an_id_logged_twice_in_two_records_is_one_row(path: Path, settings: LoggerSettings, reopened: bool) -> None:
    request_id, other = ids(2)
    table = InferenceTable(path, settings)
    table.append(deliveries(1, request_id))
    table = InferenceTable(path, settings) if reopened else table
    appended = table.append(deliveries(2, request_id, other, other))
    assert (appended.rows, appended.repeats) == (1, 2)
    assert rows(path) == Counter([request_id, other])


def test_an_id_without_time_is_looked_up_in_the_table(path: Path) -> None:
    table = InferenceTable(path, SETTINGS)
    table.append(deliveries(1, OLD, "batch-7/12"))
    assert table.append(deliveries(3, "batch-7/12", OLD)).rows == 0


@pytest.mark.parametrize("request_id", [OLD, "6f1c3d8e-9a52-5b53-8f0e-1c2d3e4f5a6b"], ids=["with a time", "without"])
def test_what_its_sender_submits_again_on_another_day_is_the_same_request(path: Path, request_id: str) -> None:
    table = InferenceTable(path, SETTINGS)
    first = outcome(request_id)
    for offset, day in enumerate((0, 0, 1, 9)):
        table.append([Delivery(0, offset, replace(first, accepted_at_ms=first.accepted_at_ms + day * 86_400_000))])
    assert rows(path) == {request_id: 1}


def test_a_writer_whose_partition_was_taken_over_is_fenced(path: Path) -> None:
    sent = ids(6)
    zombie = InferenceTable(path, SETTINGS)
    zombie.append(deliveries(0, *sent[:2]))
    InferenceTable(path, SETTINGS).append(deliveries(2, *sent[2:5]))
    zombie.append(deliveries(2, *sent[2:6]))
    assert rows(path) == Counter(sent)


def test_a_writer_sees_what_another_wrote_for_a_partition_that_comes_back(path: Path) -> None:
    """The race: its own commit for another partition freshens the handle, but not the ids it remembers."""
    first, second = ids(2)
    mine, other = InferenceTable(path, SETTINGS), InferenceTable(path, SETTINGS)
    mine.append(deliveries(0, *ids(1), partition=1))
    other.append(deliveries(0, first, partition=0))
    mine.append(deliveries(1, second, partition=1))
    assert mine.append(deliveries(1, first, partition=0)).rows == 0
    assert rows(path)[first] == 1


def test_two_writers_of_different_partitions_do_not_disturb_one_another(path: Path) -> None:
    writers = [InferenceTable(path, replace_settings(compact_commits=3)) for _ in range(2)]
    sent = ids(40)
    for number, request_id in enumerate(sent):
        writers[number % 2].append(deliveries(number, request_id, partition=number % 2))
    assert rows(path) == Counter(sent)


def test_compaction_keeps_rows_progress_and_later_appends(path: Path) -> None:
    table, sent = InferenceTable(path, replace_settings(compact_commits=5)), ids(12)
    for offset, request_id in enumerate(sent):
        table.append(deliveries(offset, request_id))
    assert rows(path) == Counter(sent)
    assert len(DeltaTable(path).file_uris()) < 5
    assert DeltaTable(path).transaction_version("outcomes-0") == 11
    assert InferenceTable(path, SETTINGS).append(deliveries(0, *sent)).rows == 0


def replace_settings(**changed: float) -> LoggerSettings:
    return SETTINGS.model_copy(update=changed)


def an_hour_passes(path: Path) -> None:
    """For Delta, whose log is as old as its files are."""
    for entry in (path / LOG).iterdir():
        hour_before = entry.stat().st_mtime - 3600
        os.utime(entry, (hour_before, hour_before))


@pytest.mark.parametrize("reopened", [pytest.param(True, id="opened anew for each commit"), pytest.param(False, id="open all the time")])
def test_a_table_and_its_log_stay_small_whoever_commits(path: Path, reopened: bool) -> None:
    """What was due was kept with the handle: a table with a row every 20 minutes, closed in between, was never compacted, nor vacuumed
    one that was reopened daily. And of files merged between two vacuums the checkpoints had forgotten most."""
    commits, every = 300, 10
    settings = replace_settings(compact_commits=every, log_retention_h=0.1, vacuum_retention_h=0.2)
    table, sent = InferenceTable(path, settings), ids(commits)
    most = Counter[str]()
    for offset, request_id in enumerate(sent):
        table = InferenceTable(path, settings) if reopened else table
        table.append(deliveries(offset, request_id))
        most |= {
            "rows' files": len(DeltaTable(path).file_uris()),
            "files": len(list(path.rglob("*.parquet"))),
            "log": len(list((path / LOG).iterdir())),
        }
        an_hour_passes(path)
    assert most["rows' files"] <= every + 1
    assert most["files"] <= 3 * every
    assert most["log"] <= 3 * every
    assert rows(path) == Counter(sent)
    assert InferenceTable(path, settings).append(deliveries(0, *sent)).repeats == commits


def test_merged_files_stay_for_their_time_and_go_after_it(path: Path) -> None:
    settings = replace_settings(compact_commits=5, log_retention_h=0.1, vacuum_retention_h=1)
    sent = ids(10)
    for offset, request_id in enumerate(sent[:5]):
        InferenceTable(path, settings).append(deliveries(offset, request_id))
    merged = set(path.glob("*/*.parquet")) - {Path(file) for file in DeltaTable(path).file_uris()} - set((path / LOG).iterdir())
    assert len(merged) == 5
    soon = settings.model_copy(update={"vacuum_retention_h": 0.5})
    for offset, request_id in enumerate(sent[5:], 5):
        InferenceTable(path, soon).append(deliveries(offset, request_id))
    assert not [file for file in merged if file.exists()]
    assert rows(path) == Counter(sent)


def test_a_table_of_another_setting_takes_the_new_one_beside_a_writer_that_has_it_open(path: Path) -> None:
    old, new = (InferenceTable(path, replace_settings(compact_commits=5, vacuum_retention_h=hours)) for hours in (24, 72))
    sent = ids(10)
    for offset, request_id in enumerate(sent):
        (new if offset < 5 else old).append(deliveries(offset, request_id, partition=offset // 5))
        if offset == 4:
            assert DeltaTable(path).metadata().configuration["delta.deletedFileRetentionDuration"] == "interval 388800 seconds"
    assert rows(path) == Counter(sent)


def test_two_writers_that_merge_the_same_files_double_nothing(path: Path) -> None:
    sent = ids(4)
    writer = InferenceTable(path, SETTINGS)
    for offset, request_id in enumerate(sent):
        writer.append(deliveries(offset, request_id))
    first, second = DeltaTable(path), DeltaTable(path)
    for table in (first, second):
        keep_up(table, str(path), path.with_suffix(".lock"), SETTINGS)
    assert rows(path) == Counter(sent)


def test_altered_columns_break_the_table_while_it_is_open_and_when_it_is_opened(path: Path) -> None:
    table = InferenceTable(path, SETTINGS)
    table.append(deliveries(0, *ids(1)))
    write_deltalake(path, pa.table({"extra": [1]}), mode="append", schema_mode="merge")
    with pytest.raises(TableBroken, match="altered"):
        table.append(deliveries(1, *ids(1)))
    with pytest.raises(TableBroken, match="altered"):
        InferenceTable(path, SETTINGS)


def test_a_table_that_was_dropped_breaks_the_open_writer_and_is_made_anew(path: Path) -> None:
    table, sent = InferenceTable(path, SETTINGS), ids(1)
    os.rename(path, path.with_name("elsewhere"))
    with pytest.raises(TableBroken):
        table.append(deliveries(0, *sent))
    InferenceTable(path, SETTINGS).append(deliveries(0, *sent))
    assert rows(path) == Counter(sent)


def test_a_folder_of_something_else_is_left_alone(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "notes.txt").touch()
    with pytest.raises(TableBroken, match="no Delta table"):
        InferenceTable(path, SETTINGS)
    assert [entry.name for entry in path.iterdir()] == ["notes.txt"]


def test_a_path_that_cannot_be_made_is_a_broken_table(path: Path) -> None:
    path.parent.parent.mkdir(parents=True)
    path.parent.touch()
    with pytest.raises(TableBroken):
        InferenceTable(path, SETTINGS)


def test_a_full_disk_waits_and_what_landed_in_spite_of_an_error_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps C7: at ENOSPC the failing call had landed."""
    table, sent = InferenceTable(path, SETTINGS), ids(2)

    def lands_and_fails(*arguments: object, **options: object) -> None:
        write_deltalake(*arguments, **options)  # type: ignore[call-overload]
        raise OSError("Generic LocalFileSystem error: No space left on device (os error 28)")

    monkeypatch.setattr("services.logger.table.write_deltalake", lands_and_fails)
    assert table.append(deliveries(0, *sent)).rows == 2
    monkeypatch.undo()
    assert table.append(deliveries(0, *sent)).rows == 0
    assert rows(path) == Counter(sent)


def test_queries_read_tables_by_their_three_level_names(path: Path, tmp_path: Path) -> None:
    table = InferenceTable(path, SETTINGS)
    table.append(
        [Delivery(0, offset, replace(TYPICAL, request_id=request_id, status=200 + offset)) for offset, request_id in enumerate(ids(3))]
    )
    found = run_query(tmp_path, "select count(*) as n, max(main.churn.scores_payload.status_code) as s from `main`.churn.scores_payload")
    assert found.to_pylist() == [{"n": 3, "s": 202}]
    assert run_query(tmp_path, "select * from main.churn.scores_payload").column_names == COLUMNS.names
    assert run_query(tmp_path, "show tables;").to_pylist() == [{"table": "main.churn.scores_payload"}]


@pytest.mark.parametrize(
    ("query", "binding", "found"),
    [
        pytest.param(
            "select :n + 1 as x, s[1:2] y, ':n' z from (select 'abc' s)", Binding({"n": 1}), {"x": 2, "y": "ab", "z": ":n"}, id="parameters"
        ),
        pytest.param("select count(*) n from scores_payload", Binding(catalog="main", schema="churn"), {"n": 1}, id="a name of one level"),
        pytest.param("select count(*) n from churn.scores_payload", Binding(catalog="main", schema="x"), {"n": 1}, id="of two"),
        pytest.param("select count(*) n from main.churn.scores_payload", Binding(catalog="a", schema="b"), {"n": 1}, id="of all three"),
        pytest.param(
            "with t as (select requester from scores_payload where requester = :who) select count(*) n from t",
            Binding({"who": "' or 1=1 --"}, "main", "churn"),
            {"n": 0},
            id="what a value says is no SQL",
        ),
    ],
)
def test_what_a_query_leaves_open_is_filled_in(path: Path, tmp_path: Path, query: str, binding: Binding, found: object) -> None:
    InferenceTable(path, SETTINGS).append(deliveries(1, *ids(1)))
    assert run_query(tmp_path, query, None, binding).to_pylist() == [found]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param("select * from main.churn.other", "There are: main.churn.scores_payload", id="an unknown table lists those there are"),
        pytest.param("select nope from main.churn.scores_payload", '"nope" not found', id="an unknown column"),
        pytest.param("select cast('x' as int)", "Could not convert string 'x'", id="an error while it runs"),
    ],
)
def test_what_goes_wrong_in_a_query_is_one_line(path: Path, tmp_path: Path, query: str, reason: str) -> None:
    InferenceTable(path, SETTINGS)
    with pytest.raises(QueryRefused, match=reason) as refused:
        run_query(tmp_path, query)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("select response->>'$.predictions[0]' as x", "2.0", id="a value, as text"),
        pytest.param("select cast(response->>'$.predictions[0]' as double) as x", 2.0, id="a value, as a number"),
        pytest.param("select list_avg(cast(response->'$.predictions' as double[])) as x", 3.0, id="a list"),
        pytest.param("select json_array_length(response, '$.predictions') as x", 2, id="how many rows were predicted"),
        pytest.param("select unnest(json_keys(request)) as x", "dataframe_records", id="the form of the body"),
        pytest.param("select cast(request->'$.dataframe_records[0].plan' as varchar) as x", '"basic"', id="a column of a record"),
        pytest.param("select sum(status_code) as x", 200, id="a sum is a whole number"),
    ],
)
def test_payloads_are_read_with_json_functions(path: Path, tmp_path: Path, query: str, found: object) -> None:
    request, response = '{"dataframe_records": [{"plan": "basic"}, {"plan": "full"}]}', '{"predictions": [2.0, 4.0]}'
    InferenceTable(path, SETTINGS).append([Delivery(0, 1, replace(TYPICAL, status=200, request=request, response=response))])
    assert run_query(tmp_path, f"{query} from main.churn.scores_payload").to_pylist() == [{"x": found}]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("select * from read_text('{}')", id="a file"),
        pytest.param("select * from read_csv('{}')", id="a file as a table"),
        pytest.param("select * from read_blob('{}')", id="a file's bytes"),
        pytest.param("select * from read_json('{}')", id="a file as JSON"),
        pytest.param("select * from sniff_csv('{}')", id="what a file looks like"),
        pytest.param("select * from parquet_metadata('{}')", id="what a file says of itself"),
        pytest.param("select * from query('select * from read_text(''{}'')')", id="a file by a query in a text"),
        pytest.param("select * from json_execute_serialized_sql(json_serialize_sql('from read_text(''{}'')'))", id="or in JSON"),
        pytest.param("select * from enable_logging(storage='file', storage_path='{}')", id="a log into a file"),
        pytest.param("select * from glob('/*')", id="a folder"),
        pytest.param("select * from read_parquet('http://127.0.0.1:1/x')", id="the network"),
        pytest.param("select * from secret", id="a variable of the process"),
        pytest.param("select getenv('PATH')", id="a variable of its environment"),
    ],
)
def test_a_query_reaches_nothing_but_the_tables(tmp_path: Path, query: str) -> None:
    secret = tmp_path / "file"
    secret.write_text("c4nary")
    with pytest.raises(QueryRefused) as refused:
        run_query(tmp_path, query.format(secret))
    assert "c4nary" not in str(refused.value)


@pytest.mark.parametrize("before", ["", "select 1 as x, 'a' as t from generate_series(1, 100_000) union all "], ids=["at once", "later"])
def test_a_query_that_needs_more_memory_than_it_may_have_leaves_no_file(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(queries.SANDBOX, "memory_limit", "50MiB")
    with pytest.raises(MemoryExhausted, match="of memory it may have"):
        run_query(tmp_path / "tables", f"{before}(select x, repeat('a', 100) || x as t from generate_series(1, 2_000_000) s(x) order by t)")
    assert list(tmp_path.iterdir()) == []


def test_no_row_is_looked_for_beyond_the_limit(tmp_path: Path) -> None:
    query = "select if(x > 50_000_000, error('too far'), x) as x, 'a' as x from generate_series(1, 60_000_000) s(x) where x > :n"
    found = run_query(tmp_path, query, None, Binding({"n": 4}), row_limit=2)
    assert (found.column_names, found.column(0).to_pylist()) == (["x", "x"], [5, 6])


def test_a_limit_keeps_the_order(tmp_path: Path) -> None:
    query = "select x from generate_series(1, 100_000) s(x) order by x desc -- the newest first"
    assert run_query(tmp_path, query, row_limit=2).to_pylist() == [{"x": 100_000}, {"x": 99_999}]


def test_fields_of_a_struct_are_read(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "main" / "x" / "y", pa.table({"s": [{"a": {"b": {"c": 1}}}]}))
    query = "select t.s.a.b as x, t.s.a.b.c as y, main.x.z.s.a.b.c as z from main.x.y t"
    with pytest.raises(QueryRefused, match="main"):
        run_query(tmp_path, query)
    assert run_query(tmp_path, query.replace("main.x.z", "t")).to_pylist() == [{"x": {"c": 1}, "y": 1, "z": 1}]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("select id, n from main.x.y order by n", [{"id": "a", "n": 1}, {"id": "c", "n": 3}], id="rows"),
        pytest.param("select n from main.x.y where id = 'b' or n > 1", [{"n": 3}], id="a condition"),
        pytest.param("select count(*) as n from main.x.y", [{"n": 2}], id="a count"),
        pytest.param("select t.n from main.x.y s join main.x.y t on t.n = s.n + 1", [], id="a join"),
        pytest.param(f"select max(q.n) as n from query('from {INNER}') q, main.x.y", [{"n": 3}], id="by its inner name"),
    ],
)
def test_of_a_table_of_which_a_part_may_be_read_the_rest_is_not_there(tmp_path: Path, query: str, found: object) -> None:
    write_deltalake(tmp_path / "main" / "x" / "y", pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]}))
    parts = {"main.x.y": Part("id", ["a", "c", "d"])}
    assert run_query(tmp_path, query, parts=parts).to_pylist() == found
    assert run_query(tmp_path, "select * from main.x.y", parts={"main.x.y": Part("id", [])}).num_rows == 0


def test_the_queries_of_the_page_run(path: Path, tmp_path: Path) -> None:
    """Those of docs/inference_tables.md, as they stand there."""
    request, response = '{"dataframe_records": [{"plan": "basic"}, {"plan": "full"}]}', '{"predictions": [2.0, 4.0]}'
    InferenceTable(path, SETTINGS).append([Delivery(0, 1, replace(TYPICAL, status=200, request=request, response=response))])
    by_hour, by_plan = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    in_test = [query.replace("main.default.churn_payload", "main.churn.scores_payload") for query in (by_hour, by_plan)]
    assert run_query(tmp_path, in_test[0].replace("current_date - 7", "date '2026-01-01'")).to_pylist()[0]["n"] == 1
    assert sorted(run_query(tmp_path, in_test[1]).to_pylist(), key=str) == [{"plan": "basic", "mean": 2.0}, {"plan": "full", "mean": 4.0}]


def test_old_days_are_removed_as_the_page_says_beside_a_writer(path: Path) -> None:
    writer, (old, recent, later) = InferenceTable(path, SETTINGS), ids(3)
    writer.append([Delivery(0, 0, replace(outcome(old), accepted_at_ms=1_767_000_000_000))])  # in December 2025
    writer.append(deliveries(1, recent))
    [recipe] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(recipe.replace(".penstock/tables/main/default/churn_payload", str(path)))
    writer.append(deliveries(2, later))
    assert rows(path) == Counter([recent, later])
