"""A batch as the API tells of it: what the control log says, and how far its folder says it is. Pure."""

from typing import Any

from services.ingress.batch_folder import BatchOrder, Progress
from services.shared.batches import Batch, BatchState
from services.shared.endpoints import Endpoint


def batch_view(endpoint: Endpoint, batch: Batch, order: BatchOrder | None, progress: Progress | None) -> dict[str, Any]:
    view: dict[str, Any] = {
        "batch_id": batch.batch_id,
        "endpoint_name": endpoint.name,
        "creator": batch.owner,
        "state": _state(batch, progress),
        "counts": _counts(batch, progress or Progress()),
        "creation_timestamp": batch.created_ms,
    }
    if order is not None:
        view["source"] = {"kind": order.kind} | ({order.kind.lower(): order.asked} if order.asked else {"bytes": order.size})
    if batch.table:
        view["output_table"] = batch.table
    if batch.ended_ms is not None:
        view["end_timestamp"] = batch.ended_ms
    elif progress is not None and progress.estimated_end_ms is not None:
        view["estimated_end_timestamp"] = progress.estimated_end_ms
    if batch.message:
        view["message"] = batch.message
    return view


def _state(batch: Batch, progress: Progress | None) -> str:
    if batch.state is BatchState.SUBMITTED:
        return "PENDING" if progress is None else "RUNNING"
    return batch.state.value


def _counts(batch: Batch, progress: Progress) -> dict[str, int]:
    """Of the rows there are, once that is known; those that were scored and those that have an error."""
    if not batch.is_running:
        return {"rows": batch.rows, "succeeded": batch.rows - batch.failed, "failed": batch.failed}
    known = {} if progress.rows is None else {"rows": progress.rows}
    return known | {"succeeded": progress.succeeded, "failed": progress.failed}
