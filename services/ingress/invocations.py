"""The scoring routes: from an HTTP request to a record, and from its reply to an HTTP response. Plain ASGI, since each step is a cost."""

import random
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from opentelemetry import metrics
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from services.ingress.admission import QueueLimits, should_refuse
from services.ingress.bodies import read_body
from services.ingress.cancellations import Cancellations
from services.ingress.connections import Headers, body_at_hand, is_gone, respond, unwatch, watch
from services.ingress.destinations import Destination, Destinations, NotServing
from services.ingress.http_errors import HUNG_UP, response_to
from services.ingress.identity import Callers, Queriers
from services.ingress.invocation import Answered, Asking, Invoked
from services.ingress.kept_answers import KeptAnswers
from services.ingress.kept_invocations import KeptInvocations
from services.ingress.pool_watch import PoolWatch
from services.ingress.preferences import preferences_of
from services.ingress.rate_limiter import RateLimiter
from services.ingress.replies import Replies, Waiting
from services.ingress.request_log import RequestLog
from services.ingress.settings import IngressSettings
from services.ingress.traffic import choose_partition
from services.shared import clock
from services.shared.endpoints import ControlState, Token
from services.shared.envelope import ScoringReply, ScoringRequest, new_request_id
from services.shared.errors import ContentTypeUnsupported, EndpointNotFound, PermissionDenied, PoolNotReady, QueueFull
from services.shared.event_log import EventLog
from services.shared.tallies import LATENCY, Tallies
from services.shared.telemetry import REQUEST_DURATION, REQUESTS, span, traceparent_of
from services.shared.topics import reply_stream

_PATH = re.compile(
    r"/serving-endpoints/([^/]+)(?:/served-models/([^/]+))?/invocations|/api/2\.0/serving-endpoints/([^/]+)/invocations", re.DOTALL
)
UNCOUNTED = (401, 403, 404, HUNG_UP)


def invoked_by(scope: Scope) -> Invoked | None:
    """None: it is no invocation, or not a POST."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    found = _PATH.fullmatch(scope["path"])
    return Invoked(found[1] or found[3], found[2]) if found else None


class Invocations:
    """Scores over the stream. One instance per process."""

    def __init__(
        self,
        settings: IngressSettings,
        ingress_id: str,
        events: EventLog,
        requests: RequestLog,
        replies: Replies,
        pools: PoolWatch,
        cancellations: Cancellations,
        limiter: RateLimiter,
        tallies: Tallies,
        kept: KeptAnswers,
    ) -> None:
        self._settings = settings
        self._limits = QueueLimits(settings.max_queue_wait_s, settings.max_in_flight, settings.deadline_s)
        self._stream = reply_stream(ingress_id)
        self._events = events
        self._requests = requests
        self._replies = replies
        self._pools = pools
        self._cancellations = cancellations
        self._limiter = limiter
        self._tallies = tallies
        self._kept = KeptInvocations(kept, self, settings)
        self._callers = Callers()
        self._queriers = Queriers()
        self._destinations = Destinations()
        meter = metrics.get_meter("penstock.ingress")
        self._count = meter.create_counter(REQUESTS, "{request}")
        self._duration = meter.create_histogram(REQUEST_DURATION, "s")

    async def answer(self, invoked: Invoked, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /serving-endpoints/{name}/invocations` and its twins."""
        started = time.perf_counter()
        try:
            answered = await self._invoke(invoked, scope, receive)
        except Exception as error:  # noqa: BLE001  the edge of a request
            response = await response_to(Request(scope), error)
            self._count_refusal(invoked, response.status_code)
            await response(scope, receive, send)
            return
        reply = answered.reply
        if answered.is_scored:
            self._count_answer(invoked, answered, time.perf_counter() - started)
        shared = _shared_headers(answered.entity, reply.content_type)
        own = ((b"x-request-id", answered.request_id.encode()), (b"content-length", b"%d" % len(reply.body)), *answered.headers)
        await respond(scope, send, reply.status, shared, own, reply.body)

    def endpoint_of(self, asking: Asking) -> str:
        """Its id. Raises EndpointNotFound or PermissionDenied."""
        state = self._confirmed_state()
        self._queriers.require(asking.caller, asking.invoked.name, state)
        return state.endpoint(asking.invoked.name).endpoint_id

    async def expect(self, asking: Asking, change: Callable[[ScoringRequest], ScoringRequest] | None = None) -> Waiting:
        """The request, admitted and among those that wait; nothing is sent yet. Raises what keeps it from being accepted.

        Nothing is awaited once it is routed (R10).
        """
        destination, partitions, routed_at = await self._route(asking.invoked, asking.caller)
        self._admit(destination, asking.caller)
        request = self._to_request(destination, asking)
        if change is not None:
            request = change(request)
        if is_gone(asking.scope):
            raise ClientDisconnect
        partition = choose_partition(partitions, self._replies.traffic(destination.pool_id))
        return self._replies.expected(request, destination.pool_id, partition, routed_at)

    async def send(self, waiting: Waiting) -> None:
        """Raises PayloadTooLarge or TryAgainLater when nothing was sent."""
        await self._requests.send(waiting)

    def _count_answer(self, invoked: Invoked, answered: Answered, took_s: float) -> None:
        self._tallies.answered(answered.endpoint_id, answered.entity, answered.reply.status)
        self._tallies.observe(answered.endpoint_id, answered.entity, LATENCY, took_s * 1000)
        self._count.add(1, {"endpoint": invoked.name, "status": f"{answered.reply.status // 100}xx"})
        self._duration.record(took_s, {"endpoint": invoked.name})

    def _count_refusal(self, invoked: Invoked, status: int) -> None:
        """What met an endpoint that exists counts for it; who may not call, or has gone, does not."""
        endpoint = self._events.snapshot().endpoints.get(invoked.name)
        if endpoint is not None and status not in UNCOUNTED:
            self._tallies.answered(endpoint.endpoint_id, "", status)

    async def _invoke(self, invoked: Invoked, scope: Scope, receive: Receive) -> Answered:
        headers = dict(reversed(scope["headers"]))  # where a name comes twice, its first value counts
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        is_plain = b"prefer" not in headers and b"idempotency-key" not in headers
        preferences = None if is_plain else preferences_of(scope["headers"])
        with span("invocation", traceparent, endpoint=invoked.name) as current:
            caller = self._callers.identify(headers.get(b"authorization", b"").decode("latin-1"), self._confirmed_state())
            body = body_at_hand(scope, self._settings.max_body_bytes)
            if body is None:
                body = await read_body(Request(scope, receive), self._settings.max_body_bytes, self._settings.body_timeout_s)
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            asking = Asking(invoked, caller, content_type, traceparent_of(current, traceparent), body, scope)
            answered = await (self._ask(asking) if preferences is None else self._kept.invoke(asking, preferences))
            current.set_attribute("http.response.status_code", answered.reply.status)
        return answered

    async def _ask(self, asking: Asking) -> Answered:
        with await self.expect(asking) as waiting:
            await self._requests.send(waiting)
            reply = await self._reply(waiting, asking.scope)
        return Answered(waiting.request.request_id, waiting.request.endpoint_id, waiting.request.entity, reply)

    def _confirmed_state(self) -> ControlState:
        if not self._events.is_confirmed():
            raise PoolNotReady("This ingress cannot confirm the state of its endpoints at the moment.")
        return self._events.snapshot()

    async def _route(self, invoked: Invoked, caller: Token) -> tuple[Destination, Sequence[int], int]:
        """Route by what is true now: the destination, its partitions, and the offset of the snapshot.

        Nothing may be awaited between the snapshot and the entry among those that wait: a request that is in neither would
        not keep the pool from being removed (R10). So after a look for partitions, route again.
        """
        is_latest = False
        while True:
            state = self._confirmed_state()  # again: the body may have taken its time
            try:
                self._queriers.require(caller, invoked.name, state)
                destination = self._destinations.choose(state, invoked.name, invoked.served, random.random())
            except (EndpointNotFound, PermissionDenied, PoolNotReady, NotServing):
                if is_latest:
                    raise
                await self._events.refresh()  # another ingress may have told the caller what is not folded here yet
                is_latest = True
                continue
            partitions = await self._requests.partitions(destination.pool_id)
            if state is self._events.snapshot():
                return destination, partitions, state.next_offset

    def _admit(self, to: Destination, caller: Token) -> None:
        """Raises QueueFull or RateLimited; nudges the scaler when the pool is at zero. What finds no place in the queue is no call."""
        pool_id = to.pool_id
        queued, report = self._pools.in_flight(pool_id), self._pools.report(pool_id)
        refusal = should_refuse(len(self._replies), queued, report, self._limits, clock.now_ms())
        if refusal:
            raise QueueFull(refusal.reason, refusal.retry_after_s)
        self._limiter.spend(to, caller)
        if self._pools.is_asleep(pool_id):
            self._pools.nudge(pool_id)

    def _to_request(self, to: Destination, asking: Asking) -> ScoringRequest:
        if not asking.content_type:
            raise ContentTypeUnsupported("The request has no Content-Type; send 'application/json' or 'text/csv'.")
        now_ms = clock.now_ms()
        patience_s = self._settings.deadline_s
        if self._pools.is_asleep(to.pool_id):
            patience_s += self._settings.wake_allowance_s
        request_id = new_request_id()
        return ScoringRequest(
            request_id=request_id,
            endpoint_id=to.endpoint_id,
            endpoint=to.endpoint,
            entity=to.entity,
            served_entity_id=to.served_entity_id,
            requester=asking.caller.principal,
            accepted_at_ms=now_ms,
            deadline_ms=now_ms + int(patience_s * 1000),
            reply_to=self._stream,
            table=to.table_of(request_id),
            content_type=asking.content_type,
            traceparent=asking.traceparent,
            attempt=1,
            body=asking.body,
            legacy_model=to.legacy_model,
            sampling_fraction=to.sampling_fraction,
        )

    async def _reply(self, waiting: Waiting, scope: Scope) -> ScoringReply:
        """The first answer. Raises DeadlineExceeded two seconds after the deadline, ClientDisconnect when the caller hangs up before."""
        watch(scope, waiting.hang_up)
        try:
            return await waiting.reply
        except ClientDisconnect:
            self._replies.abandon(waiting)
            self._cancellations.tell(waiting.pool_id, waiting.request.request_id, waiting.request.deadline_ms)
            await waiting.produced()
            raise
        finally:
            unwatch(scope)


@lru_cache(256)
def _shared_headers(entity: str, content_type: str) -> Headers:
    if content_type.startswith("text/") and "charset=" not in content_type.lower():
        content_type += "; charset=utf-8"
    return ((b"served-model-name", entity.encode("latin-1")), (b"content-type", content_type.encode("latin-1")))
