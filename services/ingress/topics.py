"""The public topics of an endpoint: switched on and off, and described as AsyncAPI."""

import asyncio
from typing import Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Request, Response

from services.ingress.asyncapi import asyncapi_document
from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import Flag, Input, parse
from services.ingress.permissions import Guard, guarded
from services.shared.clock import now_ms
from services.shared.control_events import TopicsSwitched
from services.shared.endpoints import Endpoint, Token
from services.shared.errors import DependencyLost
from services.shared.event_log import EventLog
from services.shared.settings import KafkaSettings
from services.shared.topics import make_public_topics, requests_topic, results_topic

PATIENCE_S = 20.0


class TopicsInput(Input):
    enabled: Flag


class TopicsApi:
    """As `Management`: reads fold to the log's end, writes answer with what was folded (R9)."""

    def __init__(self, events: EventLog, kafka: KafkaSettings) -> None:
        self._events = events
        self._kafka = kafka

    async def get(self, request: Request) -> Response:
        return json_response(self._view(guarded(request, await self._events.refresh())))

    async def put(self, request: Request, caller: Token) -> Response:
        """Once they are on they are there. Nobody removes them: what lies in them is not ours."""
        endpoint = guarded(request, await self._events.refresh())
        enabled = parse(TopicsInput, await read_json_object(request)).enabled
        if enabled:
            await self._make(endpoint.name)
        event = TopicsSwitched(
            at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, enabled=enabled, requester=caller.principal, requester_kind=caller.kind
        )
        state = await self._events.publish(event)
        return json_response(self._view(state.endpoint(endpoint.name)))

    async def describe(self, request: Request) -> Response:
        return json_response(asyncapi_document(guarded(request, await self._events.refresh()), self._kafka.bootstrap))

    async def _make(self, endpoint: str) -> None:
        """Raises DependencyLost."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await make_public_topics(endpoint, self._kafka)
        except (KafkaError, OSError, TimeoutError) as error:
            raise DependencyLost("Kafka did not make the topics.") from error

    def _view(self, endpoint: Endpoint) -> dict[str, Any]:
        view: dict[str, Any] = {
            "enabled": endpoint.topics is not None,
            "requests_topic": requests_topic(endpoint.name),
            "results_topic": results_topic(endpoint.name),
            "bootstrap_servers": self._kafka.bootstrap,
        }
        return view | ({"requester": endpoint.topics.requester} if endpoint.topics else {})


def topic_routes(topics: TopicsApi, endpoints: str, guard: Guard) -> APIRouter:
    """`endpoints` is the path of the list."""
    caller = Depends(guard.caller)
    router = APIRouter(prefix=f"{endpoints}/{{name}}", redirect_slashes=False, dependencies=[caller])

    async def put(request: Request, token: Any = caller) -> Response:
        return await topics.put(request, token)

    router.add_api_route("/topics", topics.get, methods=["GET"])
    router.add_api_route("/topics", put, methods=["PUT"])
    router.add_api_route("/asyncapi", topics.describe, methods=["GET"])
    return router
