"""Outcomes for the logger's tests."""

from dataclasses import replace

from services.shared.envelope import Outcome

NOON_MS = 1_770_724_800_000  # 2026-02-10 12:00:00 UTC

TYPICAL = Outcome(
    request_id="019c4773-5400-7000-8000-000000000001",
    client_request_id="order-7",
    table="main.churn.scores_payload",
    accepted_at_ms=NOON_MS,
    status=200,
    duration_ms=12,
    request='{"inputs": [[1.0]]}',
    response='{"predictions": [0.5]}',
    logging_error_codes=(),
    served_entity_id="0" * 32,
    requester="ada",
    traceparent="",
)


def outcome(request_id: str, table: str = TYPICAL.table) -> Outcome:
    return replace(TYPICAL, request_id=request_id, table=table)
