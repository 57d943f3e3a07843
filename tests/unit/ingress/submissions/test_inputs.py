import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.ingress.submissions.inputs import FileForm, read_input
from services.ingress.submissions.row_file import RowFile, write_rows
from services.shared.errors import ParameterInvalid


def rows_of(form: FileForm, content: bytes, folder: Path) -> RowFile:
    (folder / "upload").write_bytes(content)
    write_rows(read_input(form, folder / "upload"), folder / "rows.parquet")
    return RowFile(folder / "rows.parquet")


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def torn(content: bytes) -> bytes:
    return content[:4] + bytes(40) + content[44:]


def split(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


JSON_BODIES = [
    pytest.param("NDJSON", b'{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}', split(["a", "b"], [1, "x"], [2, "y"]), id="a record a line"),
    pytest.param("NDJSON", b'\xef\xbb\xbf{"a": 1}\r\n\r\n \n{"a": 2}\n', split(["a"], [1], [2]), id="a mark of byte order, blank lines"),
    pytest.param("NDJSON", b'{"a": 1}\n{"b": 2}', split(["a", "b"], [1, None], [None, 2]), id="what a record lacks is null"),
    pytest.param("NDJSON", b'{"a": 1}\n{"a": 2.5}', split(["a"], [1.0], [2.5]), id="whole numbers among fractions are fractions"),
    pytest.param("NDJSON", b'{"a": 1}\n{"a": "one"}\n{"a": null}', split(["a"], [1], ["one"], [None]), id="a column of two types"),
    pytest.param("NDJSON", b'{"a": {"x": 1}}\n{"a": {}}', split(["a"], [{"x": 1}], [{}]), id="objects keep what they hold"),
    pytest.param("NDJSON", b'{"a": [1, 2]}\n{"a": []}', split(["a"], [[1, 2]], [[]]), id="lists"),
    pytest.param("NDJSON", b'{"a": 9223372036854775808}', split(["a"], [2**63]), id="a number beyond 64 bits"),
    pytest.param("NDJSON", b'{"a": null}', split(["a"], [None]), id="nothing but nulls"),
    pytest.param("NDJSON", b'{"a": "2024-01-02 03:04:05"}', split(["a"], ["2024-01-02 03:04:05"]), id="a text like a time is text"),
    pytest.param("NDJSON", '{"a": "\\ud800 ü"}'.encode(), split(["a"], ["\ud800 ü"]), id="half of a surrogate pair"),
    pytest.param("NDJSON", b"[1, 2]\n[3, 4.5]", {"inputs": [[1, 2], [3, 4.5]]}, id="rows without names"),
    pytest.param("NDJSON", b'"one"\n"two"', {"inputs": ["one", "two"]}, id="texts"),
    pytest.param("INLINE", b'{"dataframe_records": [{"a": 1}, {"a": 2}]}', split(["a"], [1], [2]), id="inline records"),
    pytest.param("INLINE", json.dumps(split(["a", "b"], [1, 2])).encode(), split(["a", "b"], [1, 2]), id="an inline frame"),
    pytest.param("INLINE", b'{"instances": [[1], [2]]}', {"inputs": [[1], [2]]}, id="inline instances"),
    pytest.param("INLINE", b'{"instances": [{"a": 1}, {"a": 2}]}', split(["a"], [1], [2]), id="inline instances with names"),
    pytest.param("INLINE", b'{"inputs": [{"a": 1}, {"b": 2}]}', {"inputs": [{"a": 1}, {"b": 2}]}, id="inline objects that are no records"),
    pytest.param("PARQUET", parquet(m=pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int64()))), split(["m"], [{"x": 1}]), id="a map"),
    pytest.param("PARQUET", parquet(a=[1], __index_level_0__=[7]), split(["a"], [1]), id="a pandas frame without its index"),
    pytest.param("PARQUET", parquet(a=[1, None], b=["x", "y"]), split(["a", "b"], [1, "x"], [None, "y"]), id="a Parquet file"),
]


@pytest.mark.parametrize(("form", "content", "body"), JSON_BODIES)
def test_rows_are_asked_as_they_came(form: FileForm, content: bytes, body: dict[str, Any], tmp_path: Path) -> None:
    asked = rows_of(form, content, tmp_path).part(0, 10).body()

    assert asked.content_type == "application/json"
    assert json.loads(asked.content) == body


FAULTS = [
    pytest.param("NDJSON", b'{"a": 1}\n{"a": \n{"a": 3}', {1: "Line 2 cannot be parsed as JSON"}, id="a line that is no JSON"),
    pytest.param("NDJSON", b'{"a": 1}\n\n\n{"a": "\xff"}', {1: "Line 4 is not UTF-8."}, id="blank lines count as lines, not as rows"),
    pytest.param("NDJSON", b'{"a": 1}\n[2]', {1: "Line 2 holds no object, as the first row does."}, id="a list among records"),
    pytest.param("NDJSON", b'[1]\n{"a": 2}', {1: "Line 2 holds an object, which the first row does not."}, id="a record among lists"),
    pytest.param("NDJSON", b'{"a": 1}\n' + b"[" * 100_000, {1: "Line 2 cannot be parsed as JSON"}, id="a line of nothing but brackets"),
    pytest.param("CSV", b"a,b\n1,2\n3\n4,5,6\n", {1: "Line 3 holds 1 values", 2: "Line 4 holds 3 values"}, id="other numbers of fields"),
    pytest.param("CSV", b"a,b\n\xff,2\n1,2\n", {0: "Line 2 is not UTF-8."}, id="other letters"),
    pytest.param("INLINE", b'{"dataframe_records": [{"a": 1}, 2]}', {1: "Row 2 holds no object"}, id="a number among inline records"),
    pytest.param("INLINE", json.dumps(split(["a"], [1], [1, 2])).encode(), {1: "Row 2 holds 2 values"}, id="an inline row too long"),
]


@pytest.mark.parametrize(("form", "content", "faults"), FAULTS)
def test_a_line_without_a_row_keeps_its_number_and_is_not_asked(
    form: FileForm, content: bytes, faults: dict[int, str], tmp_path: Path
) -> None:
    rows = rows_of(form, content, tmp_path)
    part = rows.part(0, rows.rows)

    assert part.faults.keys() == faults.keys()
    assert all(part.faults[number].startswith(fault) for number, fault in faults.items())
    assert part.scored == rows.rows - len(faults) > 0


REFUSED = [
    pytest.param("NDJSON", b"", "The input holds no rows.", id="nothing"),
    pytest.param("NDJSON", b"{\n}", "The input holds no rows. Line 1 cannot be parsed as JSON", id="nothing that can be read"),
    pytest.param("NDJSON", b"{}\n{}", "The rows of the input have no columns.", id="records of nothing"),
    pytest.param("CSV", b"", "The CSV file is empty.", id="no header"),
    pytest.param("CSV", b"a,b\n", "The input holds no rows.", id="nothing but a header"),
    pytest.param("CSV", b"a,a\n1,2\n", "The input has the column 'a' twice.", id="a column twice"),
    pytest.param("PARQUET", b"PAR1", "The file cannot be read as Parquet", id="no Parquet"),
    pytest.param("PARQUET", torn(parquet(a=["x" * 1000] * 10)), "The file cannot be read as Parquet", id="Parquet with a fault within"),
    pytest.param("PARQUET", parquet(a=pa.array([1], pa.duration("s"))), "Column 'a' has the type duration[s]", id="a type JSON has not"),
    pytest.param("INLINE", b'{"inputs": {"a": [1]}}', "Inline rows come as one of", id="columns instead of rows"),
]


@pytest.mark.parametrize(("form", "content", "message"), REFUSED)
def test_what_holds_no_rows_is_refused(form: FileForm, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterInvalid, match=message.replace("[", r"\[")):
        rows_of(form, content, tmp_path)

    assert not (tmp_path / "rows.parquet").exists()
