"""`GET …/events`: what befell an endpoint, newest first (databricks_surface §1.2). Pure."""

from collections.abc import Sequence
from typing import Any

from services.shared.endpoints import Endpoint
from services.shared.errors import ParameterInvalid
from services.shared.milestones import KEPT
from services.shared.presence import PoolEvent


def parse_limit(limit: str | None) -> int:
    """How many events are asked for. Raises ParameterInvalid; more than are kept is no fault."""
    if limit is None:
        return KEPT
    digits = limit.lstrip("0")
    if not (limit.isascii() and limit.isdigit() and digits):
        raise ParameterInvalid("'limit' must be a number of events, 1 or more.")
    return KEPT if len(digits) > len(str(KEPT)) else int(digits)


def events_of(endpoint: Endpoint, limit: int, of_pools: Sequence[PoolEvent] = ()) -> list[dict[str, Any]]:
    """What the control log tells, and `of_pools` what the scaler did with the endpoint's pools."""
    told = [(m.at_ms, m.event_type, m.status, m.message) for m in endpoint.milestones]
    told += [(e.at_ms, e.event_type, "INFO", e.message) for e in of_pools]
    told.sort(key=lambda event: event[0])  # stable: within a millisecond the log's own order
    newest = told[: -limit - 1 : -1]
    return [{"event_type": kind, "status": status, "message": message, "timestamp": at} for at, kind, status, message in newest]
