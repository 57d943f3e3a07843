"""The routes that say how things are: metrics, and whether this process can serve."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.exposition import CONTENT_TYPE, NOTHING, endpoint_metrics, own_metrics
from services.ingress.http_errors import json_response
from services.ingress.permissions import Guard, guarded
from services.ingress.pool_watch import PoolWatch
from services.ingress.request_log import RequestLog
from services.shared.clock import now_ms
from services.shared.endpoints import Token
from services.shared.errors import DependencyLost, TryAgainLater
from services.shared.event_log import EventLog
from services.shared.presence import read_ingresses
from services.shared.rights import level_of
from services.shared.tallies import read_tallies

PING_PATIENCE_S = 1.0


class Observability:
    """Metrics are what all processes counted together, so that whichever of them is asked says the same."""

    def __init__(self, redis: Redis, events: EventLog, pools: PoolWatch, requests: RequestLog) -> None:
        self._redis = redis
        self._events = events
        self._pools = pools
        self._requests = requests

    async def of_endpoint(self, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        try:
            tallies = await read_tallies(self._redis, [endpoint.endpoint_id])
        except (RedisError, OSError) as error:
            raise DependencyLost("The metrics cannot be read at the moment.") from error
        text = endpoint_metrics(endpoint, tallies.get(endpoint.endpoint_id, NOTHING), self._pools.reports(), now_ms())
        return Response(text, media_type=CONTENT_TYPE)

    async def own(self, caller: Token) -> Response:
        """About the endpoints the caller may see."""
        state = await self._events.refresh()
        endpoints = [endpoint for endpoint in state.endpoints.values() if level_of(caller, endpoint, state)]
        try:
            tallies = await read_tallies(self._redis, [endpoint.endpoint_id for endpoint in endpoints])
            ingresses = await read_ingresses(self._redis, now_ms())
        except (RedisError, OSError) as error:
            raise DependencyLost("The metrics cannot be read at the moment.") from error
        return Response(own_metrics(endpoints, tallies, self._pools.reports(), ingresses), media_type=CONTENT_TYPE)

    async def ready(self) -> Response:
        if problem := await self.why_not_ready():
            raise TryAgainLater(problem)
        return json_response({"status": "ready"})

    async def why_not_ready(self) -> str:
        """Empty where a request that comes now could be served: its rights known, its record taken, its answer read."""
        if not self._events.is_confirmed():
            return "The control log cannot be confirmed."
        if not self._requests.is_open():
            return "The request log cannot be reached."
        try:
            async with asyncio.timeout(PING_PATIENCE_S):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return "Redis cannot be reached."
        return ""


async def alive() -> Response:
    return json_response({"status": "alive"})


def observability_routes(observability: Observability, endpoints: str, guard: Guard) -> APIRouter:
    """Health needs no token; metrics do, since they name endpoints."""
    router = APIRouter(redirect_slashes=False)
    router.add_api_route("/health/live", alive, methods=["GET"])
    router.add_api_route("/health/ready", observability.ready, methods=["GET"])
    caller = Depends(guard.caller)

    async def own(token: Any = caller) -> Response:
        return await observability.own(token)

    router.add_api_route("/metrics", own, methods=["GET"])
    router.add_api_route(f"{endpoints}/{{name}}/metrics", observability.of_endpoint, methods=["GET"], dependencies=[caller])
    return router
