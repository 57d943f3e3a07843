"""Invocations whose answer is kept: those that want a 202 instead of a long wait, and those that may come twice."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
from services.ingress.replies import HOST_GRACE_MS, Waiting
from services.ingress.settings import IngressSettings
from services.shared.clock import now_ms
from services.shared.endpoints import ControlState, Endpoint, Token
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import DeadlineExceeded, KeyReused, RequestRejected, TryAgainLater
from services.shared.event_log import EventLog
from services.shared.rights import Level, level_of
from services.shared.topics import kept_answer

PREFIXES = ("/serving-endpoints/{name}", "/api/2.0/serving-endpoints/{name}")
LOOK_EVERY_S = 0.1
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
    """A key and the stream of the answer are opened at once, before anything is sent: of all who come with one key, over all
    processes, one sends, and the others follow it (`KeptAnswers.open`).
    """

    def __init__(self, kept: KeptAnswers, sending: Sending, settings: IngressSettings) -> None:
        self._kept = kept
        self._sending = sending
        self._async_deadline_ms = int(settings.async_deadline_s * 1000)
        self._patience_ms = int((settings.deadline_s + settings.wake_allowance_s) * 1000)

    async def invoke(self, asking: Asking, preferences: Preferences) -> Answered:
        """Raises as an invocation does, and KeyReused."""
        endpoint_id, began_ms = self._sending.endpoint_of(asking), now_ms()
        if not preferences.key:
            answered = await self._ask(asking, preferences, None)
            assert answered, "without a key nobody can come before"
            return answered
        claim = claim_of(asking.caller, endpoint_id, preferences.key, asking.invoked.served, asking.content_type, asking.body)
        while True:
            first, fingerprint = await self._kept.first(claim) or (None, claim.fingerprint)
            if fingerprint != claim.fingerprint:
                raise KeyReused("This 'Idempotency-Key' came with another request before.")
            if first is None:
                answered = await self._ask(asking, preferences, claim)
            elif first.may_be_scored_again(began_ms):
                answered = await self._ask(asking, preferences, claim, instead_of=first.asked.request_id)
            else:
                answered = await self._follow(first.asked.request_id, preferences, asking.scope, began_ms)
            if answered:
                return answered

    async def _ask(self, asking: Asking, preferences: Preferences, claim: Claim | None, instead_of: str = "") -> Answered | None:
        """None: another request has the key by now, and nothing was sent."""
        with await self._sending.expect(asking, partial(self._kept_request, preferences)) as waiting:
            request, is_sent = waiting.request, False
            try:
                if not await self._kept.open(asked_by(asking.caller, request), claim, instead_of):
                    return None
                await self._sending.send(waiting)
                is_sent = True
                return await self._answer(waiting, asking, preferences)
            except BaseException as error:
                if not is_sent or isinstance(error, TryAgainLater):  # nothing was accepted
                    await self._forget(request.request_id, claim)
                raise

    def _kept_request(self, preferences: Preferences, request: ScoringRequest) -> ScoringRequest:
        patience_ms = self._async_deadline_ms if preferences.is_async else 0
        deadline_ms = max(request.deadline_ms, request.accepted_at_ms + patience_ms)
        return replace(request, deadline_ms=deadline_ms, reply_to=f"{request.reply_to} {kept_answer(request.request_id)}")

    async def _answer(self, waiting: Waiting, asking: Asking, preferences: Preferences) -> Answered:
        """A caller who hangs up may come again, so the work goes on: whatever becomes of the caller, this lasts until the record is
        acknowledged, and is produced again where need be, or there is an answer.
        """
        request, gone = waiting.request, asyncio.get_running_loop().create_future()
        either: list[asyncio.Future[Any]] = [waiting.reply, gone]
        watch(asking.scope, partial(gone.set_result, None))
        try:
            await waiting.accepted()
            if preferences.key and not waiting.reply.done():
                await self._tell_accepted(request.request_id)
            patience_s = preferences.wait_s if preferences.is_async else None
            await asyncio.wait(either, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.reply.done():
                return Answered(request.request_id, request.endpoint_id, request.entity, waiting.reply.result())
            if gone.done():
                raise ClientDisconnect
            return accepted(asked_by(asking.caller, request))
        finally:
            unwatch(asking.scope)

    async def _follow(self, request_id: str, preferences: Preferences, scope: Scope, began_ms: int) -> Answered | None:
        """What comes, or came, of the first request with this key. None: it was not accepted, so that the key is free."""
        while kept := await self._kept.look(request_id):
            at_ms = now_ms()
            if kept.reply:
                return replayed(kept.asked, kept.reply)
            if kept.asked.is_too_late(at_ms) or at_ms > began_ms + self._patience_ms + HOST_GRACE_MS:
                raise DeadlineExceeded(TOO_LATE)
            if kept.is_accepted and preferences.is_async and at_ms >= began_ms + preferences.wait_s * 1000:
                return accepted(kept.asked)
            if is_gone(scope):
                raise ClientDisconnect
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def _tell_accepted(self, request_id: str) -> None:
        try:
            await self._kept.accept(request_id)
        except TryAgainLater:
            log.warning("that a request was accepted cannot be told", extra={"request_id": request_id})

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
