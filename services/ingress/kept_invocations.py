"""Invocations whose answer is kept: those that want a 202 instead of a long wait, and those that may come twice."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from services.ingress.connections import is_gone, unwatch, watch
from services.ingress.http_errors import json_response
from services.ingress.invocation import Answered, Asking
from services.ingress.kept_answers import Asked, Claim, KeptAnswers, asked_by, claim_of
from services.ingress.permissions import Guard, guarded
from services.ingress.preferences import Preferences
from services.ingress.replies import Waiting
from services.shared.clock import now_ms
from services.shared.endpoints import ControlState, Endpoint, Token
from services.shared.envelope import ScoringReply, ScoringRequest, new_request_id
from services.shared.errors import DeadlineExceeded, KeyReused, RequestRejected, TryAgainLater
from services.shared.event_log import EventLog
from services.shared.rights import Level, level_of
from services.shared.topics import kept_answer

PREFIXES = ("/serving-endpoints/{name}", "/api/2.0/serving-endpoints/{name}")
LOOK_EVERY_S = 0.1
OPENED_WITHIN_S = 1.0  # by whoever has the key; after it another takes its place
RETRY_AFTER_S = b"1"
TOO_LATE = "No answer came before the deadline; whether the model was evaluated is not known."

log = logging.getLogger(__name__)


class AnswerNotFound(RequestRejected):
    """There is no such answer, or none the caller may see, or it is kept no more."""

    code = "RESOURCE_DOES_NOT_EXIST"


class Sending(Protocol):
    """The steps of every invocation, kept or not (`Invocations`)."""

    def endpoint_of(self, asking: Asking) -> str:
        """Its id. Raises EndpointNotFound or PermissionDenied."""

    async def expect(self, asking: Asking, change: Callable[[ScoringRequest], ScoringRequest]) -> Waiting:
        """The request as `change` makes it, admitted, with nothing sent yet. Raises what keeps it from being accepted."""

    async def send(self, waiting: Waiting) -> None: ...


class KeptInvocations:
    def __init__(self, kept: KeptAnswers, sending: Sending, async_deadline_s: float) -> None:
        self._kept = kept
        self._sending = sending
        self._async_deadline_ms = int(async_deadline_s * 1000)

    async def invoke(self, asking: Asking, preferences: Preferences) -> Answered:
        """Raises as an invocation does, and KeyReused."""
        endpoint_id, request_id = self._sending.endpoint_of(asking), new_request_id()
        if not preferences.key:
            return await self._ask(asking, preferences, request_id, None)
        claim = claim_of(asking.caller, endpoint_id, preferences.key, asking.invoked.served, asking.content_type, asking.body)
        first_id, fingerprint = await self._kept.claim(claim, request_id)
        if fingerprint != claim.fingerprint:
            raise KeyReused("This 'Idempotency-Key' came with another request before.")
        followed = await self._follow(first_id, claim, preferences, asking.scope) if first_id != request_id else None
        return followed or await self._ask(asking, preferences, first_id, claim)

    async def _ask(self, asking: Asking, preferences: Preferences, request_id: str, claim: Claim | None) -> Answered:
        patience_ms = self._async_deadline_ms if preferences.is_async else 0

        def kept(request: ScoringRequest) -> ScoringRequest:
            deadline_ms = max(request.deadline_ms, request.accepted_at_ms + patience_ms)
            reply_to = f"{request.reply_to} {kept_answer(request_id)}"
            return replace(request, request_id=request_id, deadline_ms=deadline_ms, reply_to=reply_to)

        is_sent = False
        try:
            with await self._sending.expect(asking, kept) as waiting:
                await self._kept.open(asked_by(asking.caller, waiting.request))
                await self._sending.send(waiting)
                is_sent = True
                return await self._answer(waiting, asking, preferences)
        except BaseException as error:
            if not is_sent or isinstance(error, TryAgainLater):  # nothing was accepted
                await self._forget(request_id, claim)
            raise

    async def _answer(self, waiting: Waiting, asking: Asking, preferences: Preferences) -> Answered:
        """A caller who hangs up may come again, so the work goes on."""
        request = waiting.request
        watch(asking.scope, waiting.hang_up)
        try:
            if preferences.is_async:
                await waiting.produced()
                await asyncio.wait([waiting.reply], timeout=preferences.wait_s)
                if not waiting.reply.done():
                    return accepted(asked_by(asking.caller, request))
            return Answered(request.request_id, request.endpoint_id, request.entity, await waiting.reply)
        except ClientDisconnect:
            await waiting.produced()
            raise
        finally:
            unwatch(asking.scope)

    async def _follow(self, request_id: str, claim: Claim, preferences: Preferences, scope: Scope) -> Answered | None:
        """What comes, or came, of the first request with this key. None: it was never opened, since who had the key died."""
        began_ms = now_ms()
        while True:
            kept, waited_s = await self._kept.look(request_id), (now_ms() - began_ms) / 1000
            if kept is None and waited_s > OPENED_WITHIN_S:
                return None
            if kept and kept.reply:
                return replayed(kept.asked, kept.reply)
            if kept and kept.asked.is_too_late(now_ms()):
                await self._forget(request_id, claim)
                raise DeadlineExceeded(TOO_LATE)
            if kept and preferences.is_async and waited_s >= preferences.wait_s:
                return accepted(kept.asked)
            if is_gone(scope):
                raise ClientDisconnect
            await asyncio.sleep(LOOK_EVERY_S)

    async def _forget(self, request_id: str, claim: Claim | None) -> None:
        try:
            await self._kept.forget(request_id, claim)
        except TryAgainLater:
            log.warning("the key of a request that was not accepted stays", extra={"request_id": request_id})


def accepted(asked: Asked) -> Answered:
    """The answer comes later, at `Location`."""
    body = json.dumps(pending(asked)).encode()
    location = f"/serving-endpoints/{asked.endpoint}/invocations/{asked.request_id}"
    headers = ((b"location", location.encode()), (b"retry-after", RETRY_AFTER_S), (b"preference-applied", b"respond-async"))
    reply = ScoringReply(asked.request_id, 202, "application/json", body)
    return Answered(asked.request_id, asked.endpoint_id, asked.entity, reply, headers, is_scored=False)


def replayed(asked: Asked, reply: ScoringReply) -> Answered:
    headers = ((b"idempotency-replayed", b"true"),)
    return Answered(asked.request_id, asked.endpoint_id, asked.entity, reply, headers, is_scored=False)


def pending(asked: Asked) -> dict[str, Any]:
    return {"invocation_id": asked.request_id, "state": "PENDING", "deadline": asked.deadline_ms}


class KeptApi:
    """Answers for who asked, and for who manages the endpoint."""

    def __init__(self, kept: KeptAnswers, events: EventLog) -> None:
        self._kept = kept
        self._events = events

    async def look(self, request: Request, invocation_id: str, caller: Token) -> Response:
        """The answer as it was; 202 while there is none. Raises AnswerNotFound, or DeadlineExceeded where none will come."""
        state = await self._events.refresh()
        endpoint, found = guarded(request, state), await self._kept.look(invocation_id)
        if found is None or found.asked.endpoint_id != endpoint.endpoint_id or not _may_see(found.asked, endpoint, caller, state):
            raise AnswerNotFound(f"There is no answer '{invocation_id}'.")
        if found.reply:
            headers = {"x-request-id": invocation_id, "served-model-name": found.asked.entity}
            return Response(found.reply.body, found.reply.status, headers, found.reply.content_type)
        if found.asked.is_too_late(now_ms()):
            raise DeadlineExceeded(TOO_LATE)
        return json_response(pending(found.asked), 202, {"Retry-After": RETRY_AFTER_S.decode()})


def _may_see(asked: Asked, endpoint: Endpoint, caller: Token, state: ControlState) -> bool:
    return asked.is_of(caller) or level_of(caller, endpoint, state) is Level.CAN_MANAGE


def kept_routes(api: KeptApi, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    querier = Depends(guard.querier)

    async def look(request: Request, invocation_id: str, token: Any = querier) -> Response:
        return await api.look(request, invocation_id, token)

    for prefix in PREFIXES:
        router.add_api_route(f"{prefix}/invocations/{{invocation_id}}", look, methods=["GET"])
    return router
