"""Rows as the statement-execution API tells them."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from services.ingress.statement_folder import END, ORDER, is_canceled, leave_end
from services.ingress.statement_results import CHUNK_BYTES, chunks_of, columns_of, to_bytes, to_json_rows
from services.ingress.statements import StatementNotFound, Statements

NOON = dt.datetime(2026, 11, 23, 12, 0, 0, 123_000, dt.UTC)


@pytest.mark.parametrize(
    ("value", "kind", "name", "text", "told"),
    [
        pytest.param("a", pa.string(), "STRING", "STRING", "a", id="text"),
        pytest.param(None, pa.string(), "STRING", "STRING", None, id="nothing"),
        pytest.param(True, pa.bool_(), "BOOLEAN", "BOOLEAN", "true", id="yes"),
        pytest.param(200, pa.int32(), "INT", "INT", "200", id="an integer"),
        pytest.param(2**40, pa.int64(), "LONG", "BIGINT", str(2**40), id="a long one"),
        pytest.param(0.5, pa.float64(), "DOUBLE", "DOUBLE", "0.5", id="a number"),
        pytest.param(Decimal("1.50"), pa.decimal128(4, 2), "DECIMAL", "DECIMAL(4,2)", "1.50", id="a decimal"),
        pytest.param(NOON.date(), pa.date32(), "DATE", "DATE", "2026-11-23", id="a day"),
        pytest.param(NOON, pa.timestamp("us", "UTC"), "TIMESTAMP", "TIMESTAMP", "2026-11-23T12:00:00.123Z", id="an instant"),
        pytest.param(b"\x00", pa.binary(), "BINARY", "BINARY", "AA==", id="bytes"),
        pytest.param(["a", None], pa.list_(pa.string()), "ARRAY", "ARRAY<STRING>", '["a", null]', id="a list"),
        pytest.param({"at": NOON.date()}, pa.struct([("at", pa.date32())]), "STRUCT", "STRUCT", '{"at": "2026-11-23"}', id="a struct"),
    ],
)
def test_types_and_values(value: Any, kind: pa.DataType, name: str, text: str, told: str | None) -> None:
    rows = pa.table({"x": pa.array([value], kind)})
    assert columns_of(rows.schema) == [{"name": "x", "position": 0, "type_name": name, "type_text": text}]
    assert to_json_rows(rows) == [[told]]


def test_a_result_without_rows_has_one_chunk_and_its_columns() -> None:
    empty = pa.table({"x": pa.array([], pa.int32())})
    assert [chunk.num_rows for chunk in chunks_of(empty)] == [0]
    assert to_bytes(empty, "CSV") == b"x\r\n"


def test_a_large_one_is_cut_and_nothing_is_lost() -> None:
    rows = pa.table({"n": range(20_000), "text": ["x" * 1_000] * 20_000})
    chunks = list(chunks_of(rows))
    assert len(chunks) == 5
    assert all(chunk.nbytes <= CHUNK_BYTES * 1.01 for chunk in chunks)
    assert pa.concat_tables(chunks) == rows


def test_each_format_holds_the_same_rows() -> None:
    rows = pa.table({"n": [1, 2], "text": ["a,b", None]})
    assert json.loads(to_bytes(rows, "JSON_ARRAY")) == [["1", "a,b"], ["2", None]]
    assert to_bytes(rows, "CSV") == b'n,text\r\n1,"a,b"\r\n2,\r\n'
    with pa.ipc.open_stream(to_bytes(rows, "ARROW_STREAM")) as stream:
        assert stream.read_all() == rows


@pytest.mark.parametrize("signature", ["", "0" * 64, "\xf3", "\u20ac"], ids=["none", "a wrong one", "no ASCII", "no Latin-1"])
async def test_a_link_that_was_not_signed_leads_nowhere(signature: str, tmp_path: Path) -> None:
    statement_id = str(uuid4())
    (tmp_path / statement_id).mkdir()
    (tmp_path / statement_id / ORDER).write_text(json.dumps({"owner": "ada", "link_key": "key"}))
    with pytest.raises(StatementNotFound, match="The link is not valid"):
        Statements(tmp_path, tmp_path).linked(statement_id, 0, 2**40, signature)


def test_a_statement_ends_once(tmp_path: Path) -> None:
    leave_end(tmp_path, "CANCELED")
    leave_end(tmp_path, "SUCCEEDED", {"total_chunk_count": 1})
    assert is_canceled(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [END]
