"""Batches: who asked for which, and what became of it. A fold over the control log, a part of that in `endpoints.py`; pure.

How far a running one is stands in its folder, since that changes every second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from services.shared.control_events import BatchCanceled, BatchEnded, BatchEvent, BatchForgotten, BatchSubmitted, PrincipalKind
from services.shared.errors import AlreadyExists, Conflict, RequestRejected


class BatchState(StrEnum):
    SUBMITTED = "SUBMITTED"
    CANCELING = "CANCELING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    FORGOTTEN = "FORGOTTEN"  # nothing is left but its table of results


RUNNING = (BatchState.SUBMITTED, BatchState.CANCELING)


class BatchNotFound(RequestRejected):
    """There is no such batch, or none the caller may see, or it is kept no more."""

    code = "RESOURCE_DOES_NOT_EXIST"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"Batch '{batch_id}' does not exist.")
        self.batch_id = batch_id


@dataclass(frozen=True, slots=True)
class Batch:
    batch_id: str
    endpoint_id: str
    owner: str
    owner_kind: PrincipalKind
    created_ms: int
    key: str
    digest: str
    table: str
    state: BatchState = BatchState.SUBMITTED
    ended_ms: int | None = None
    message: str = ""
    rows: int = 0
    failed: int = 0

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING


Batches = Mapping[str, Batch]  # by id, in the order they came


def apply_batch_event(batches: Batches, event: BatchEvent) -> Batches:
    """Raises AlreadyExists, BatchNotFound and Conflict: the event is refused."""
    if isinstance(event, BatchSubmitted):
        return {**batches, event.batch_id: _submitted(batches, event)}
    batch = batches.get(event.batch_id)
    if batch is None or batch.state is BatchState.FORGOTTEN:
        raise BatchNotFound(event.batch_id)
    match event:
        case BatchCanceled():
            return {**batches, batch.batch_id: replace(batch, state=BatchState.CANCELING) if batch.is_running else batch}
        case BatchEnded():
            if not batch.is_running:
                raise Conflict("The batch has ended already.")
            state, table = BatchState(event.state), batch.table if event.wrote_table else ""
            ended = replace(
                batch, state=state, ended_ms=event.at_ms, message=event.message, rows=event.rows, failed=event.failed, table=table
            )
            return {**batches, batch.batch_id: ended}
        case BatchForgotten():
            if batch.is_running:
                raise Conflict("The batch has not ended yet.")
            left = {batch_id: other for batch_id, other in batches.items() if batch_id != batch.batch_id}
            return left | ({batch.batch_id: replace(batch, state=BatchState.FORGOTTEN, key="")} if batch.table else {})


def batch_by_key(batches: Batches, endpoint_id: str, owner: str, kind: PrincipalKind, key: str) -> Batch | None:
    """The one that the same caller submitted to the same endpoint with this key; None also for no key, and once that one is forgotten."""
    if not key:
        return None
    return next((b for b in batches.values() if (b.endpoint_id, b.owner, b.owner_kind, b.key) == (endpoint_id, owner, kind, key)), None)


def _submitted(batches: Batches, event: BatchSubmitted) -> Batch:
    if event.batch_id in batches or batch_by_key(batches, event.endpoint_id, event.owner, event.owner_kind, event.key):
        raise AlreadyExists("The batch was submitted already.")
    if event.table and any(batch.table == event.table for batch in batches.values()):
        raise AlreadyExists(f"Table {event.table} holds the results of another batch.")
    return Batch(event.batch_id, event.endpoint_id, event.owner, event.owner_kind, event.at_ms, event.key, event.digest, event.table)
