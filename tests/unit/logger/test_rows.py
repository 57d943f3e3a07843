from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.logger.rows import COLUMNS, LEGACY_COLUMNS, is_row, to_legacy_rows, to_rows
from tests.unit.logger.outcomes import NOON_MS, TYPICAL

ONE_MS_BEFORE_MIDNIGHT = NOON_MS + 12 * 3_600_000 - 1


def test_an_outcome_becomes_the_twelve_columns_of_databricks_table() -> None:
    rows = to_rows([TYPICAL])
    assert [(field.name, str(field.type)) for field in rows.schema] == [
        ("databricks_request_id", "string"),
        ("request_date", "date32[day]"),
        ("client_request_id", "string"),
        ("request_time", "timestamp[us, tz=UTC]"),
        ("status_code", "int32"),
        ("sampling_fraction", "double"),
        ("execution_duration_ms", "int64"),
        ("request", "string"),
        ("response", "string"),
        ("logging_error_codes", "list<item: string>"),
        ("served_entity_id", "string"),
        ("requester", "string"),
    ]
    assert rows.to_pylist() == [
        {
            "databricks_request_id": TYPICAL.request_id,
            "request_date": date(2026, 2, 10),
            "client_request_id": "order-7",
            "request_time": datetime(2026, 2, 10, 12, tzinfo=UTC),
            "status_code": 200,
            "sampling_fraction": 1.0,
            "execution_duration_ms": 12,
            "request": TYPICAL.request,
            "response": TYPICAL.response,
            "logging_error_codes": [],
            "served_entity_id": "0" * 32,
            "requester": "ada",
        }
    ]


@pytest.mark.parametrize(
    ("changed", "column", "expected"),
    [
        pytest.param({"accepted_at_ms": ONE_MS_BEFORE_MIDNIGHT}, "request_date", date(2026, 2, 10), id="the day is the UTC day of receipt"),
        pytest.param({"accepted_at_ms": ONE_MS_BEFORE_MIDNIGHT + 1}, "request_date", date(2026, 2, 11), id="midnight is the next day"),
        pytest.param({"client_request_id": None}, "client_request_id", None, id="no client id is null"),
        pytest.param({"request": None}, "request", None, id="a payload that is too large is null"),
        pytest.param({"logging_error_codes": ("A", "B")}, "logging_error_codes", ["A", "B"], id="error codes are listed"),
        pytest.param({"sampling_fraction": 0.25}, "sampling_fraction", 0.25, id="the share that is logged"),
        pytest.param({"status": 504}, "status_code", 504, id="a late answer is a row as well"),
    ],
)
def test_each_field_has_its_column(changed: dict[str, Any], column: str, expected: object) -> None:
    assert to_rows([replace(TYPICAL, **changed)])[column].to_pylist() == [expected]


def test_a_legacy_row_has_its_ten_columns_and_tells_its_model() -> None:
    [row] = to_legacy_rows([replace(TYPICAL, legacy=("churn", "scores", "3"))]).to_pylist()
    assert list(row) == LEGACY_COLUMNS.names
    assert row == {
        "databricks_request_id": TYPICAL.request_id,
        "client_request_id": "order-7",
        "date": date(2026, 2, 10),
        "timestamp_ms": TYPICAL.accepted_at_ms,
        "status_code": 200,
        "sampling_fraction": 1.0,
        "execution_time_ms": 12,
        "request": '{"inputs": [[1.0]]}',
        "response": '{"predictions": [0.5]}',
        "request_metadata": [("endpoint_name", "churn"), ("model_name", "scores"), ("model_version", "3")],
    }


def test_a_legacy_row_of_an_older_log_has_no_metadata() -> None:
    assert to_legacy_rows([TYPICAL])["request_metadata"].to_pylist() == [[]]


def test_no_outcomes_are_no_rows_of_the_same_columns() -> None:
    assert to_rows([]).schema == COLUMNS


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"status": "200"}, id="a status that is a text"),
        pytest.param({"duration_ms": 2**70}, id="a duration beyond 64 bits"),
        pytest.param({"accepted_at_ms": 10**20}, id="a time no calendar has"),
    ],
)
def test_what_does_not_fit_its_column_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        to_rows([replace(TYPICAL, **changed)])


MS = st.integers(-(2**64), 2**64) | st.sampled_from([-62_135_596_800_000, 253_402_300_799_999, 253_402_300_800_000, True])


@given(at=MS, status=MS, duration=MS, codes=st.lists(st.text() | st.integers()).map(tuple))
def test_what_is_a_row_can_be_written(at: int, status: int, duration: int, codes: tuple[str, ...]) -> None:
    odd = replace(TYPICAL, accepted_at_ms=at, status=status, duration_ms=duration, logging_error_codes=codes)
    if is_row(odd):
        assert to_rows([odd]).num_rows == 1


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"accepted_at_ms": 253_402_300_800_000}, id="a time after the last year"),
        pytest.param({"status": 2**31}, id="a status of more than 32 bits"),
        pytest.param({"duration_ms": 2**63}, id="a duration of more than 64 bits"),
        pytest.param({"status": True}, id="a boolean"),
        pytest.param({"logging_error_codes": (7,)}, id="a code that is no text"),
    ],
)
def test_what_is_no_row(changed: dict[str, object]) -> None:
    assert is_row(TYPICAL)
    assert not is_row(replace(TYPICAL, **changed))  # type: ignore[arg-type]
