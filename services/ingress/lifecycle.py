"""Stop and start, addresses to notify, and what befell an endpoint: the routes beside create, update and delete."""

from fastapi import APIRouter, Request, Response

from services.ingress.bodies import read_json_object
from services.ingress.endpoint_events import events_of, parse_limit
from services.ingress.endpoint_view import detailed, email_notifications
from services.ingress.http_errors import json_response
from services.ingress.payloads import parse_notifications
from services.ingress.permissions import guarded
from services.ingress.pool_watch import PoolWatch
from services.shared.clock import now_ms
from services.shared.control_events import EndpointStarted, EndpointStopped, NotificationsChanged
from services.shared.event_log import EventLog


class Lifecycle:
    """As `Management`: reads fold to the log's end, writes answer with what was folded (R9)."""

    def __init__(self, events: EventLog, pools: PoolWatch, quota: int) -> None:
        self._events = events
        self._pools = pools
        self._quota = quota

    async def stop(self, name: str, request: Request) -> Response:
        """From the offset of its event on queries are 400; what was accepted before is still answered."""
        endpoint = guarded(request, await self._events.refresh())
        event = EndpointStopped(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, based_on=endpoint.latest_version)
        return await self._published(event, name)

    async def start(self, name: str, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        event = EndpointStarted(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, based_on=endpoint.latest_version, quota=self._quota)
        return await self._published(event, name)

    async def notify(self, name: str, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        notifications = parse_notifications(await read_json_object(request))
        await self._events.publish(NotificationsChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, notifications=notifications))
        return json_response({"name": name, "email_notifications": email_notifications(notifications)})

    async def events(self, request: Request, limit: str | None = None) -> Response:
        newest = parse_limit(limit)
        endpoint = guarded(request, await self._events.refresh())
        return json_response({"events": events_of(endpoint, newest, await self._pools.told(endpoint))})

    async def _published(self, event: EndpointStopped | EndpointStarted, name: str) -> Response:
        state = await self._events.publish(event)
        return json_response(detailed(state.endpoint(name), self._pools.reports()))


def lifecycle_routes(lifecycle: Lifecycle, endpoints: str) -> APIRouter:
    """`endpoints` is the path of the list."""
    router = APIRouter(prefix=f"{endpoints}/{{name}}", redirect_slashes=False)
    router.add_api_route("/config:stop", lifecycle.stop, methods=["POST"])
    router.add_api_route("/config:start", lifecycle.start, methods=["POST"])
    router.add_api_route("/notifications", lifecycle.notify, methods=["PATCH"])
    router.add_api_route("/events", lifecycle.events, methods=["GET"])
    return router
