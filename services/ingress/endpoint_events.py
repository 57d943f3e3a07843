"""`GET …/events`: what befell an endpoint, newest first (databricks_surface §1.2). Pure."""

from typing import Any

from services.shared.endpoints import Endpoint
from services.shared.errors import ParameterInvalid
from services.shared.milestones import KEPT


def parse_limit(limit: str | None) -> int:
    """How many events are asked for. Raises ParameterInvalid; more than are kept is no fault."""
    if limit is None:
        return KEPT
    digits = limit.lstrip("0")
    if not (limit.isascii() and limit.isdigit() and digits):
        raise ParameterInvalid("'limit' must be a number of events, 1 or more.")
    return KEPT if len(digits) > len(str(KEPT)) else int(digits)


def events_of(endpoint: Endpoint, limit: int) -> list[dict[str, Any]]:
    newest = reversed(endpoint.milestones[-limit:])
    return [{"event_type": m.event_type, "status": m.status, "message": m.message, "timestamp": m.at_ms} for m in newest]
