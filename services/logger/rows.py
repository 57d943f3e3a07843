"""Outcomes as columns of an inference table. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from services.shared.envelope import Outcome

ID = "databricks_request_id"
DAY = "request_date"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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
            "sampling_fraction": [1.0] * len(outcomes),
            "execution_duration_ms": [o.duration_ms for o in outcomes],
            "request": [o.request for o in outcomes],
            "response": [o.response for o in outcomes],
            "logging_error_codes": [list(o.logging_error_codes) for o in outcomes],
            "served_entity_id": [o.served_entity_id for o in outcomes],
            "requester": [o.requester for o in outcomes],
        },
        schema=COLUMNS,
    )


def received_at(outcome: Outcome) -> datetime:
    return EPOCH + timedelta(milliseconds=outcome.accepted_at_ms)
