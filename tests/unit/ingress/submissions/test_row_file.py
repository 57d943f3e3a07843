import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input
from mlflow.types import ColSpec, DataType, Schema

from services.ingress.submissions.blocks import BLOCK_BYTES, BLOCK_ROWS, of_batches
from services.ingress.submissions.inputs import read_input
from services.ingress.submissions.row_file import Kept, RowFile, to_body, write_rows
from services.shared.errors import ParameterInvalid
from services.shared.settings import MIB

NOON = datetime(2026, 3, 4, 12, 0, 0, 250_000)

READ_BY_MLFLOW = [
    pytest.param(pa.array([1, 2]), DataType.long, [1, 2], id="whole numbers"),
    pytest.param(pa.array([1.0, 0.1, 1e300]), DataType.double, [1.0, 0.1, 1e300], id="numbers, to the last digit"),
    pytest.param(pa.array([0.1], pa.float32()), DataType.float, [pytest.approx(0.1)], id="short numbers"),
    pytest.param(pa.array([1.0, None, float("nan")]), DataType.double, [1.0, "NaN", "NaN"], id="nothing, and no number"),
    pytest.param(pa.array([float("inf"), float("-inf")]), DataType.double, [float("inf"), float("-inf")], id="infinities"),
    pytest.param(pa.array([Decimal("1.50")]), DataType.double, [1.5], id="decimals"),
    pytest.param(pa.array([True, False]), DataType.boolean, [True, False], id="truths"),
    pytest.param(pa.array(['"ü\n\\', ""]), DataType.string, ['"ü\n\\', ""], id="texts"),
    pytest.param(pa.array(["a", "b", "a"]).dictionary_encode(), DataType.string, ["a", "b", "a"], id="categories"),
    pytest.param(pa.array([b"\x00\xff", b""]), DataType.binary, [b"\x00\xff", b""], id="bytes"),
    pytest.param(pa.array([NOON]), DataType.datetime, [NOON], id="times without a zone"),
    pytest.param(pa.array([NOON.replace(tzinfo=UTC)]), DataType.datetime, [NOON], id="times with one, in UTC"),
    pytest.param(pa.array([date(2026, 3, 4)]), DataType.datetime, [datetime(2026, 3, 4)], id="days"),
    pytest.param(pa.array([time(12, 30)]), DataType.string, ["12:30:00.000000"], id="times of a day"),
]


@pytest.mark.parametrize(("column", "kind", "read"), READ_BY_MLFLOW)
def test_mlflow_reads_of_a_body_what_the_column_held(column: pa.Array, kind: DataType, read: list[Any]) -> None:
    body = to_body("dataframe_split", pa.RecordBatch.from_arrays([column], names=["a"]))

    frame = infer_and_parse_data(json.loads(body.content, parse_constant=refuse), Schema([ColSpec(kind, "a")]))

    assert ["NaN" if value != value else value for value in frame["a"].tolist()] == read


def refuse(token: str) -> Any:
    raise AssertionError(f"{token} is not JSON")


NESTED = [
    pytest.param(pa.array([[1, 2], None]), [[1, 2], None], id="lists"),
    pytest.param(pa.array([[1.0, float("nan")]]), [[1.0, None]], id="no number in a list"),
    pytest.param(pa.array([{"a": date(2026, 3, 4), "b": b"x"}]), [{"a": "2026-03-04", "b": "eA=="}], id="a day and bytes in an object"),
    pytest.param(pa.array([{"a": Decimal("0.5")}]), [{"a": 0.5}], id="a decimal in an object"),
    pytest.param(pa.array([[("x", 1)], None], pa.map_(pa.string(), pa.int64())), [{"x": 1}, None], id="maps are objects"),
]


@pytest.mark.parametrize(("column", "told"), NESTED)
def test_what_is_nested_travels_as_json(column: pa.Array, told: list[Any]) -> None:
    body = to_body("dataframe_split", pa.RecordBatch.from_arrays([column], names=["a"]))

    assert json.loads(body.content) == {"dataframe_split": {"columns": ["a"], "data": [[value] for value in told]}}


def test_params_go_with_each_body() -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([1])], names=["a"])

    assert json.loads(to_body("dataframe_split", rows, {"seed": 7}).content)["params"] == {"seed": 7}
    assert json.loads(to_body("inputs", rows, {"seed": 7}).content) == {"inputs": [1], "params": {"seed": 7}}


def test_mlflow_reads_parts_of_a_csv_file_as_it_reads_the_file(tmp_path: Path) -> None:
    content = 'zip,name,x\r\n01067,"a, ""b""\nc",1\r\n\r\n70173,,2.5\r\n'
    (tmp_path / "upload").write_text(content)
    write_rows(read_input("CSV", tmp_path / "upload"), tmp_path / "rows.parquet")
    rows = RowFile(tmp_path / "rows.parquet")
    schema = Schema([ColSpec(DataType.string, "zip"), ColSpec(DataType.string, "name"), ColSpec(DataType.double, "x")])

    whole = parse_csv_input(content_of(content), schema).to_dict("records")
    parts = [rows.part(number, 1).body() for number in range(rows.rows)]

    assert {part.content_type for part in parts} == {"text/csv"}
    read = [record for part in parts for record in parse_csv_input(content_of(part.content.decode()), schema).to_dict("records")]
    assert str(read) == str(whole)


def content_of(text: str) -> Any:
    from io import StringIO

    return StringIO(text)


def test_columns_of_csv_are_told_as_numbers_where_all_of_them_are(tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("id,zip,x,none\n1,01067,1,\n,70173,2.5e3,\n")
    write_rows(read_input("CSV", tmp_path / "upload"), tmp_path / "rows.parquet")

    told = RowFile(tmp_path / "rows.parquet").inputs(0, 2)

    assert told.to_pylist() == [{"id": 1, "zip": "01067", "x": 1.0, "none": ""}, {"id": None, "zip": "70173", "x": 2500.0, "none": ""}]


def many(rows: int) -> pa.Table:
    return pa.table({"n": range(rows)})


@pytest.mark.parametrize(
    ("first", "count", "found"),
    [
        pytest.param(0, 3, [0, 1, 2], id="the first"),
        pytest.param(BLOCK_ROWS - 1, 3, [BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1], id="over a border of what is read at once"),
        pytest.param(2 * BLOCK_ROWS + 8, 100, [2 * BLOCK_ROWS + 8, 2 * BLOCK_ROWS + 9], id="no more than there are"),
    ],
)
def test_a_part_can_be_read_from_anywhere(first: int, count: int, found: list[int], tmp_path: Path) -> None:
    rows = many(2 * BLOCK_ROWS + 10)
    kept = write_rows(of_batches(rows.schema, rows.to_batches(BLOCK_ROWS)), tmp_path / "rows.parquet")

    part = RowFile(tmp_path / "rows.parquet").part(first, count)

    assert kept == Kept(2 * BLOCK_ROWS + 10, 0)
    assert (part.first, part.count, part.good["n"].to_pylist()) == (first, len(found), found)


def test_large_rows_are_read_back_a_few_at_a_time() -> None:
    rows = pa.table({"text": ["x" * MIB] * 20})

    blocks = list(of_batches(rows.schema, rows.to_batches()).blocks)

    assert max(block.rows.nbytes for block in blocks) <= BLOCK_BYTES
    assert sum(block.rows.num_rows for block in blocks) == 20


def test_what_is_too_much_is_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    rows = many(2 * BLOCK_ROWS)

    with pytest.raises(ParameterInvalid, match="larger than 1000 bytes"):
        write_rows(of_batches(rows.schema, rows.to_batches(BLOCK_ROWS)), tmp_path / "rows.parquet", max_bytes=1000)

    assert not (tmp_path / "rows.parquet").exists()
