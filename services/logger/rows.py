"""Outcomes as columns of an inference table. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from services.shared.envelope import Outcome

ID = "databricks_request_id"
DAY, LEGACY_DAY = "request_date", "date"
METADATA = ("endpoint_name", "model_name", "model_version")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years that Python's datetime has

# databricks_surface §3.1: the live DDL of Databricks' own inference tables, names, types and order.
COLUMNS = pa.schema(
    [
        (ID, pa.string()),
        (DAY, pa.date32()),
        ("client_request_id", pa.string()),
        ("request_time", pa.timestamp("us", "UTC")),
        ("status_code", pa.int32()),
        ("sampling_fraction", pa.float64()),
        ("execution_duration_ms", pa.int64()),
        ("request", pa.string()),
        ("response", pa.string()),
        ("logging_error_codes", pa.list_(pa.string())),
        ("served_entity_id", pa.string()),
        ("requester", pa.string()),
    ]
)


# databricks_surface §3.2: the columns of the tables of `auto_capture_config`.
LEGACY_COLUMNS = pa.schema(
    [
        (ID, pa.string()),
        ("client_request_id", pa.string()),
        (LEGACY_DAY, pa.date32()),
        ("timestamp_ms", pa.int64()),
        ("status_code", pa.int32()),
        ("sampling_fraction", pa.float64()),
        ("execution_time_ms", pa.int64()),
        ("request", pa.string()),
        ("response", pa.string()),
        ("request_metadata", pa.map_(pa.string(), pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of a table look like; `day` is the column it is partitioned by."""

    columns: pa.Schema
    day: str
    to_rows: Callable[[Sequence[Outcome]], pa.Table]


def to_rows(outcomes: Sequence[Outcome]) -> pa.Table:
    """One row per outcome, in order.

    `request_date` is the UTC day of `request_time`. Raises ValueError, TypeError or OverflowError (pyarrow's) for a field whose
    value does not fit its column.
    """
    times = [received_at(o) for o in outcomes]
    return pa.table(
        {
            ID: [o.request_id for o in outcomes],
            DAY: [at.date() for at in times],
            "client_request_id": [o.client_request_id for o in outcomes],
            "request_time": times,
            "status_code": [o.status for o in outcomes],
            "sampling_fraction": [o.sampling_fraction for o in outcomes],
            "execution_duration_ms": [o.duration_ms for o in outcomes],
            "request": [o.request for o in outcomes],
            "response": [o.response for o in outcomes],
            "logging_error_codes": [list(o.logging_error_codes) for o in outcomes],
            "served_entity_id": [o.served_entity_id for o in outcomes],
            "requester": [o.requester for o in outcomes],
        },
        schema=COLUMNS,
    )


def to_legacy_rows(outcomes: Sequence[Outcome]) -> pa.Table:
    """As `to_rows`. An outcome that does not tell its model, from the log of an older version, has no metadata."""
    return pa.table(
        {
            ID: [o.request_id for o in outcomes],
            "client_request_id": [o.client_request_id for o in outcomes],
            LEGACY_DAY: [received_at(o).date() for o in outcomes],
            "timestamp_ms": [o.accepted_at_ms for o in outcomes],
            "status_code": [o.status for o in outcomes],
            "sampling_fraction": [o.sampling_fraction for o in outcomes],
            "execution_time_ms": [o.duration_ms for o in outcomes],
            "request": [o.request for o in outcomes],
            "response": [o.response for o in outcomes],
            "request_metadata": [list(zip(METADATA, o.legacy or (), strict=False)) for o in outcomes],
        },
        schema=LEGACY_COLUMNS,
    )


CURRENT = Layout(COLUMNS, DAY, to_rows)
LEGACY = Layout(LEGACY_COLUMNS, LEGACY_DAY, to_legacy_rows)


def is_row(outcome: Outcome) -> bool:
    """Whether `to_rows` takes it: an outcome is unpacked with fields of the right types, not yet with values their columns hold."""
    return (
        _FIRST_MS <= outcome.accepted_at_ms <= _LAST_MS
        and abs(outcome.status) < 2**31
        and abs(outcome.duration_ms) < 2**63
        and bool not in map(type, (outcome.accepted_at_ms, outcome.status, outcome.duration_ms))
        and all(isinstance(code, str) for code in outcome.logging_error_codes)
    )


def received_at(outcome: Outcome) -> datetime:
    return EPOCH + timedelta(milliseconds=outcome.accepted_at_ms)
