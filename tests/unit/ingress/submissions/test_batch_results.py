import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from services.ingress.submissions.batch_results import Written, write_results
from services.ingress.submissions.blocks import of_batches
from services.ingress.submissions.inputs import read_input
from services.ingress.submissions.results_table import TableRefused, write_table
from services.ingress.submissions.row_file import RowFile, write_rows
from services.ingress.submissions.settled import Settled

CANCELLED = {"error_code": "CANCELLED", "message": "The batch ended before this row was scored."}
REFUSED = b'{"error_code": "BAD_REQUEST", "message": "no"}'


def numbers(folder: Path, rows: int, column: str = "n") -> RowFile:
    table = pa.table({column: range(rows)})
    write_rows(of_batches(table.schema, table.to_batches()), folder / "rows.parquet")
    return RowFile(folder / "rows.parquet")


def answer(first: int, *predictions: Any) -> Settled:
    return Settled(first, len(predictions), 200, json.dumps({"predictions": predictions}).encode(), "churn-3")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def written(rows: RowFile, folder: Path, *settled: Settled) -> tuple[Written, list[dict[str, Any]]]:
    counts = write_results(rows, lambda: iter(settled), folder / "results.parquet", folder / "results.ndjson")
    return counts, lines(folder / "results.ndjson")


def test_each_row_has_its_prediction_or_its_error(tmp_path: Path) -> None:
    counts, found = written(numbers(tmp_path, 4), tmp_path, answer(0, 0.5, 1.5), Settled(2, 1, 400, REFUSED, "churn-3"))

    assert counts == Written(rows=4, failed=2)
    assert found == [
        {"n": 0, "prediction": 0.5, "error": None, "served_entity": "churn-3"},
        {"n": 1, "prediction": 1.5, "error": None, "served_entity": "churn-3"},
        {"n": 2, "prediction": None, "error": {"error_code": "BAD_REQUEST", "message": "no"}, "served_entity": "churn-3"},
        {"n": 3, "prediction": None, "error": CANCELLED, "served_entity": None},
    ]


def test_a_line_that_held_no_row_is_a_row_with_an_error_and_moves_no_prediction(tmp_path: Path) -> None:
    (tmp_path / "upload").write_text('{"n": 0}\noops\n{"n": 2}\n')
    write_rows(read_input("NDJSON", tmp_path / "upload"), tmp_path / "rows.parquet")
    settled = Settled(0, 3, 200, b'{"predictions": [10, 12]}', "churn-3")

    counts, found = written(RowFile(tmp_path / "rows.parquet"), tmp_path, settled)

    assert counts == Written(rows=3, failed=1)
    assert [(row["n"], row["prediction"], row["served_entity"]) for row in found] == [
        (0, 10, "churn-3"),
        (None, None, None),
        (2, 12, "churn-3"),
    ]
    assert found[1]["error"]["message"].startswith("Line 2 cannot be parsed as JSON")


@pytest.mark.parametrize(
    ("items", "kind", "told"),
    [
        pytest.param([[1], [2]], pa.int64(), [1, 2], id="whole numbers"),
        pytest.param([[1], [2.5]], pa.float64(), [1.0, 2.5], id="fractions in a later item"),
        pytest.param([[2**60], [0.5]], pa.float64(), [float(2**60), 0.5], id="large whole numbers among fractions"),
        pytest.param([["yes"], [None]], pa.string(), ["yes", None], id="texts, and nothing"),
        pytest.param([[None]], pa.string(), [None], id="nothing at all"),
        pytest.param([[1], ["yes"]], pa.string(), [1, "yes"], id="what has no type in common is JSON"),
        pytest.param([[[1, 2]], [[0.5]]], pa.list_(pa.float64()), [[1.0, 2.0], [0.5]], id="lists"),
        pytest.param(
            [[{"a": 1}], [{"a": 0.5, "b": "x"}]],
            pa.struct([("a", pa.float64()), ("b", pa.string())]),
            [{"a": 1.0, "b": None}, {"a": 0.5, "b": "x"}],
            id="objects have the fields of all",
        ),
    ],
)
def test_all_predictions_of_a_batch_have_one_type(items: list[list[Any]], kind: pa.DataType, told: list[Any], tmp_path: Path) -> None:
    _, found = written(numbers(tmp_path, len(items)), tmp_path, *(answer(first, *item) for first, item in enumerate(items)))

    assert [row["prediction"] for row in found] == told
    assert pq.read_schema(tmp_path / "results.parquet").field("prediction").type == kind


def test_an_answer_that_is_not_by_rows_is_an_error_of_each(tmp_path: Path) -> None:
    _, found = written(numbers(tmp_path, 2), tmp_path, Settled(0, 2, 200, b'{"predictions": [1]}', "churn-3"))

    assert [row["error"]["message"] for row in found] == ["The model answered 2 rows with 1 predictions."] * 2


def test_a_column_that_is_named_as_a_result_is_gets_another_name(tmp_path: Path) -> None:
    _, found = written(numbers(tmp_path, 1, "prediction"), tmp_path, answer(0, "yes"))

    assert found == [{"input_prediction": 0, "prediction": "yes", "error": None, "served_entity": "churn-3"}]


def test_a_batch_of_which_nothing_was_scored_has_a_row_for_each_of_its_rows(tmp_path: Path) -> None:
    counts, found = written(numbers(tmp_path, 5_000), tmp_path)

    assert counts == Written(rows=5_000, failed=5_000)
    assert [row["n"] for row in found] == list(range(5_000))


def test_small_items_are_written_together_in_the_order_of_their_rows(tmp_path: Path) -> None:
    settled = [answer(first, first * 2) for first in range(2_100) if first != 7]

    counts, found = written(numbers(tmp_path, 5_000), tmp_path, *settled)

    assert counts == Written(rows=5_000, failed=5_000 - 2_099)
    assert [row["n"] for row in found] == list(range(5_000))
    assert {row["n"]: row["prediction"] for row in found if row["error"] is None} == {n: 2 * n for n in range(2_100) if n != 7}
    assert pq.ParquetFile(tmp_path / "results.parquet").num_row_groups == 3


ODD = pa.table(
    {
        "u": pa.array([1], pa.uint64()),
        "t": pa.array([1], pa.time64("us")),
        "ns": pa.array([1], pa.timestamp("ns", "Europe/Berlin")),
        "mean radius": pa.array([0.5], pa.float16()),
        "c": pa.array(["x"]).dictionary_encode(),
        "l": pa.array([[{"u": 1}]], pa.list_(pa.struct([("u", pa.uint8())]))),
        "j": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'])),
        "b": pa.array([b"\xff"]),
        "d": pa.array([None]),
    }
)


def test_the_table_takes_columns_of_all_types_and_opens(tmp_path: Path) -> None:
    write_rows(of_batches(ODD.schema, ODD.to_batches()), tmp_path / "rows.parquet")
    written(RowFile(tmp_path / "rows.parquet"), tmp_path, answer(0, {"p": 0.5}))

    write_table(tmp_path / "results.parquet", str(tmp_path / "main" / "batch" / "scores"), "b-1")

    rows = DeltaTable(tmp_path / "main" / "batch" / "scores").to_pyarrow_dataset()
    found = duckdb.connect().register("scores", rows).sql('select u, "mean radius", c, l[1].u, j, prediction.p, error from scores')
    assert found.fetchall() == [(1, 0.5, "x", 1, '{"a": 1}', 0.5, None)]


def test_a_table_is_written_once_and_never_over_another(tmp_path: Path) -> None:
    written(numbers(tmp_path, 3), tmp_path, answer(0, 1, 2, 3))
    table = str(tmp_path / "main" / "batch" / "scores")

    write_table(tmp_path / "results.parquet", table, "b-1")
    write_table(tmp_path / "results.parquet", table, "b-1")

    assert DeltaTable(table).version() == 0
    assert DeltaTable(table).count() == 3
    with pytest.raises(TableRefused, match="A table of that name exists"):
        write_table(tmp_path / "results.parquet", table, "b-2")
