"""The scoring routes: from an HTTP request to a record, and from its reply to an HTTP response."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry import metrics
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from services.ingress.admission import QueueLimits, should_refuse
from services.ingress.bodies import read_body
from services.ingress.cancellations import Cancellations
from services.ingress.connections import is_gone, unwatch, watch
from services.ingress.identity import identify
from services.ingress.pool_watch import PoolWatch
from services.ingress.replies import Replies, Waiting
from services.ingress.request_log import RequestLog
from services.ingress.settings import IngressSettings
from services.ingress.traffic import choose_entity, choose_partition, named_entity
from services.shared import clock
from services.shared.endpoints import Config, ConfigUpdate, ControlState, Endpoint, ServedEntity, served_entity_id
from services.shared.envelope import ScoringReply, ScoringRequest, new_request_id
from services.shared.errors import ContentTypeUnsupported, DeadlineExceeded, PoolNotReady, QueueFull, RequestRejected
from services.shared.event_log import EventLog
from services.shared.telemetry import REQUEST_DURATION, REQUESTS, span, traceparent_of
from services.shared.topics import reply_stream

HOST_GRACE_S = 2.0  # R2: only the host declares expiry; the ingress waits this much longer for it


@dataclass(frozen=True, slots=True)
class _Routed:
    """`routed_at` is the control offset of the snapshot that was routed by."""

    endpoint: Endpoint
    entity: ServedEntity
    partitions: Sequence[int]
    routed_at: int


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
    ) -> None:
        self._settings = settings
        self._stream = reply_stream(ingress_id)
        self._events = events
        self._requests = requests
        self._replies = replies
        self._pools = pools
        self._cancellations = cancellations
        meter = metrics.get_meter("penstock.ingress")
        self._count = meter.create_counter(REQUESTS, "{request}")
        self._duration = meter.create_histogram(REQUEST_DURATION, "s")

    async def invoke(self, request: Request) -> Response:
        """`POST /serving-endpoints/{name}/invocations` and its twins."""
        started = time.perf_counter()
        name = request.path_params["name"]
        with span("invocation", request.headers.get("traceparent", ""), endpoint=name) as current:
            state = self._confirmed_state()
            requester = identify(request.headers.get("authorization"), state).principal
            body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
            routed = await self._route(name, request.path_params.get("served"))
            entity = routed.entity
            self._admit(entity)
            scoring = self._to_request(request.headers, body, routed.endpoint, entity, requester, traceparent_of(current))
            reply = await self._score(scoring, routed, request.scope)
            current.set_attribute("http.response.status_code", reply.status)
        self._count.add(1, {"endpoint": name, "status": f"{reply.status // 100}xx"})
        self._duration.record(time.perf_counter() - started, {"endpoint": name})
        headers = {"served-model-name": entity.spec.name, "x-request-id": scoring.request_id}
        return Response(reply.body, reply.status, headers, media_type=reply.content_type)

    def _confirmed_state(self) -> ControlState:
        if not self._events.is_confirmed():
            raise PoolNotReady("This ingress cannot confirm the state of its endpoints at the moment.")
        return self._events.snapshot()

    async def _route(self, name: str, served: str | None) -> _Routed:
        """Route by what is true now. Nothing may be awaited between the snapshot and the entry among those that wait: a request
        that is in neither would not keep the pool from being removed (R10). So after a look for partitions, route again."""
        while True:
            state = self._confirmed_state()  # again: the body may have taken its time
            endpoint = state.endpoint(name)
            entity = _entity(endpoint, served)
            partitions = await self._requests.partitions(entity.pool_id)
            if state is self._events.snapshot():
                return _Routed(endpoint, entity, partitions, state.next_offset)

    def _admit(self, entity: ServedEntity) -> None:
        """Raises QueueFull; nudges the scaler when the pool is at zero."""
        pool_id = entity.pool_id
        limits = QueueLimits(self._settings.max_queue_wait_s, self._settings.max_in_flight, self._settings.deadline_s)
        refusal = should_refuse(len(self._replies), self._replies.in_flight(pool_id), self._pools.report(pool_id), limits)
        if refusal:
            raise QueueFull(refusal.reason, refusal.retry_after_s)
        if self._pools.is_asleep(pool_id):
            self._pools.nudge(pool_id)

    def _to_request(
        self, headers: Mapping[str, str], body: bytes, endpoint: Endpoint, entity: ServedEntity, requester: str, traceparent: str
    ) -> ScoringRequest:
        content_type = headers.get("content-type")
        if not content_type:
            raise ContentTypeUnsupported("The request has no Content-Type; send 'application/json' or 'text/csv'.")
        now_ms = clock.now_ms()
        patience_s = self._settings.deadline_s
        if self._pools.is_asleep(entity.pool_id):
            patience_s += self._settings.wake_allowance_s
        return ScoringRequest(
            request_id=new_request_id(),
            endpoint_id=endpoint.endpoint_id,
            endpoint=endpoint.name,
            entity=entity.spec.name,
            served_entity_id=served_entity_id(entity.pool_id),
            requester=requester,
            accepted_at_ms=now_ms,
            deadline_ms=now_ms + int(patience_s * 1000),
            reply_to=self._stream,
            table=endpoint.table.full_name if endpoint.table else "",
            content_type=content_type,
            traceparent=traceparent or headers.get("traceparent", ""),
            attempt=1,
            body=body,
        )

    async def _score(self, request: ScoringRequest, routed: _Routed, scope: Scope) -> ScoringReply:
        """Produce the request and wait for the first answer.

        Raises DeadlineExceeded two seconds after the deadline, ClientDisconnect when the caller hangs up before the answer.
        """
        if is_gone(scope):
            raise ClientDisconnect
        pool_id = routed.entity.pool_id
        partition = choose_partition(routed.partitions, self._replies.in_flight_by_partition(pool_id), (random.random(), random.random()))
        with self._replies.expected(request, pool_id, partition, routed.routed_at) as waiting:
            await self._requests.send(waiting)
            patience_s = request.deadline_ms / 1000 - time.time() + HOST_GRACE_S
            try:
                async with asyncio.timeout(patience_s):
                    return await self._reply(waiting, scope)
            except TimeoutError as error:
                raise DeadlineExceeded("No answer came before the deadline; whether the model was evaluated is not known.") from error

    async def _reply(self, waiting: Waiting, scope: Scope) -> ScoringReply:
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


def _entity(endpoint: Endpoint, served: str | None) -> ServedEntity:
    config = _serving_config(endpoint)
    return named_entity(config, endpoint.name, served) if served else choose_entity(config, random.random())


def _serving_config(endpoint: Endpoint) -> Config:
    if endpoint.active:
        return endpoint.active
    if endpoint.update is ConfigUpdate.IN_PROGRESS:
        raise PoolNotReady(f"Endpoint '{endpoint.name}' is not ready yet: it is being created.", retry_after_s=2)
    raise RequestRejected(f"Endpoint '{endpoint.name}' is not ready: its creation failed.")
