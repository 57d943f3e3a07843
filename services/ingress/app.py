"""Wires one ingress process: the control log, the request log, the reply reader and the HTTP routes."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, cast
from uuid import uuid4

import uvicorn
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingress.cancellations import Cancellations
from services.ingress.connections import Connection, ask_who_is_there
from services.ingress.gate import AddressBlocked, Gate
from services.ingress.http_errors import HANDLERS, response_to
from services.ingress.invocations import Invocations, invoked_by
from services.ingress.kept_answers import KeptAnswers
from services.ingress.listening import require_safe
from services.ingress.management import Management, management_app
from services.ingress.observability import Observability
from services.ingress.pool_watch import PoolWatch
from services.ingress.rate_limiter import RateLimiter
from services.ingress.registry import Registry
from services.ingress.replies import Replies
from services.ingress.reply_reader import ReplyReader
from services.ingress.request_log import RequestLog
from services.ingress.settings import IngressServiceSettings
from services.shared.addresses import parse_networks
from services.shared.event_log import EventLog
from services.shared.health import health_served
from services.shared.process import calm_garbage_collector, vital
from services.shared.readiness import LISTEN_VARIABLE, tell_ready
from services.shared.redis_clients import new_blocking_redis, new_redis
from services.shared.tallies import Tallies

DRAIN_GRACE_S = 5.0  # on top of the longest deadline


async def serve(settings: IngressServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT: then stop accepting, answer what waits, leave."""
    tls = require_safe(settings.ingress)
    async with started_app(settings) as app:
        grace_s = settings.ingress.deadline_s + settings.ingress.wake_allowance_s + DRAIN_GRACE_S
        config = uvicorn.Config(
            app,
            http=cast(Any, partial(Connection, settings.ingress.head_timeout_s)),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(grace_s),
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        await _Server(config).serve(sockets=[ask_who_is_there(_listening_socket(settings))])


@asynccontextmanager
async def started_app(settings: IngressServiceSettings) -> AsyncIterator[ASGIApp]:
    """The ASGI application with everything behind it running: the control log is read to its end before it is yielded."""
    ingress_id = uuid4().hex
    redis, blocking = new_redis(settings.redis), new_blocking_redis(settings.redis)
    events, requests, replies = EventLog(settings.kafka), RequestLog(settings.kafka), Replies()
    registry = Registry(settings.mlflow.tracking_uri)
    pools = PoolWatch(redis, ingress_id, events, replies, requests)
    reader = ReplyReader(blocking, redis, ingress_id, replies, lambda: requests.send_again(replies))
    await asyncio.gather(events.start(), requests.start(), reader.open())
    limiter = RateLimiter(redis, settings.ingress.max_queries_per_second, settings.ingress.max_changes_per_5_minutes)
    cancellations, tallies = Cancellations(redis), Tallies(redis)
    tasks = [
        vital(reader.run(), "reply-reader"),
        vital(pools.run_reports(), "reports"),
        vital(pools.run_nudges(), "nudges"),
        vital(cancellations.run(), "cancellations"),
        vital(limiter.run(), "limits"),
        vital(tallies.run(), "tallies"),
        vital(replies.run_expiry(), "expiry"),
    ]
    try:
        kept = KeptAnswers(redis, settings.ingress)
        invocations = Invocations(settings.ingress, ingress_id, events, requests, replies, pools, cancellations, limiter, tallies, kept)
        management = Management(settings, events, registry, pools, limiter, kept)
        observability = Observability(redis, events, pools, requests)
        gate = Gate(events, parse_networks(settings.ingress.trusted_proxies))
        # health is of this process alone, where the port is all processes'
        async with health_served(observability.why_not_ready), aclosing(management.statements):
            yield routes(gate, invocations, management, observability)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(RedisError, OSError):  # what is left there goes by itself
            await tallies.add()
            await pools.leave()
            await reader.close()
        await requests.stop()
        await events.stop()
        await registry.close()
        await redis.aclose()
        await blocking.aclose()


def routes(gate: Gate, invocations: Invocations, management: Management, observability: Observability) -> ASGIApp:
    """Scoring goes past Starlette, whose router and middleware cost as much as all of our own steps; management is FastAPI."""
    scoring = [
        "/serving-endpoints/{name}/invocations",
        "/api/2.0/serving-endpoints/{name}/invocations",
        "/serving-endpoints/{name}/served-models/{served}/invocations",
    ]
    refused = [Route(path, _refuse_method, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]) for path in scoring]
    others = Starlette(routes=[*refused, Mount("/", management_app(management, observability))], exception_handlers=HANDLERS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            gate.enter(scope)
        except AddressBlocked as blocked:
            await (await response_to(Request(scope), blocked))(scope, receive, send)
            return
        invoked = invoked_by(scope)
        if invoked:
            await invocations.answer(invoked, scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


async def _refuse_method(_: Request) -> NoReturn:
    raise HTTPException(405, headers={"Allow": "POST"})


def _listening_socket(settings: IngressServiceSettings) -> socket.socket:
    """The socket the supervisor bound, shared by all ingress processes, or one of our own."""
    descriptor = os.environ.pop(LISTEN_VARIABLE, None)
    if descriptor is not None:
        return socket.socket(fileno=int(descriptor))
    return socket.create_server((settings.ingress.host, settings.ingress.port), backlog=2048)


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to us: uvicorn's own handler kills the process before it has cleaned up."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        calm_garbage_collector()
        tell_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
