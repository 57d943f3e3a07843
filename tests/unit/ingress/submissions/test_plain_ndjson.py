"""Arrow's parser and ours read every file alike, or Arrow's is not used."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingress.submissions import inputs
from services.ingress.submissions.inputs import read_ndjson
from services.ingress.submissions.plain_ndjson import NotPlain, plain_schema
from services.shared.errors import ParameterInvalid

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "x", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "1", '"\\\n', "ü\ud800", "\0"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from("xy"), SCALARS, max_size=2)
RECORDS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3).map(json.dumps)
LINES = RECORDS | st.sampled_from(['{"a": 1}{"a": 2}', '{"a":\n1}', '{"a": 1, "a": 2}', '{"a": 1.0}', '{"a": 1e3}', "", " ", "[1]", "{"])


def read(file: Path) -> Any:
    try:
        found = read_ndjson(file)
        return found.form, found.schema, [(block.rows.to_pylist(), block.faults) for block in found.blocks]
    except ParameterInvalid as error:
        return error.message


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=1, max_size=4), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_both_read_the_same(lines: list[str], end: str, last: bool, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes((end.join(lines) + (end if last else "")).encode())
    quick = read(file)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inputs, "plain_schema", refuse)
        assert str(quick) == str(read(file))


def refuse(_: Path) -> Any:
    raise NotPlain


def test_plain_files_go_the_quick_way(tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text('{"a": 0.1, "b": "x", "c": [1, 2], "d": true}\n\n{"a": 1, "b": null}\n')

    assert plain_schema(tmp_path / "rows.ndjson").names == ["a", "b", "c", "d"]
