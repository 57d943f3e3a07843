"""Endpoints as the API shows them, made by what makes them there: the fold and the ingress' own view."""

from typing import Any

from services.ingress.endpoint_view import detailed, summary
from services.shared.control_events import ControlEvent
from tests.unit.shared.control_log import fold


def endpoint_after(*events: ControlEvent) -> dict[str, Any]:
    return detailed(fold(*events).endpoint("churn"), {})


def listed_after(*events: ControlEvent) -> dict[str, Any]:
    return summary(fold(*events).endpoint("churn"))
