"""Answers that outlive their connection, in Redis: a stream for each, with who asked in its first entry and the answer behind it.

Hosts answer to it as to the stream of an ingress, so an answer is kept whatever becomes of the process that took the request. Who has a
key is decided, and what is kept is counted, in Redis by scripts (`shared/kept_answers.py`).
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, NoReturn

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.http_errors import error_response
from services.ingress.replies import HOST_GRACE_MS
from services.ingress.settings import IngressSettings
from services.shared.clock import now_ms
from services.shared.endpoints import Token
from services.shared.envelope import REPLIES, ScoringReply, ScoringRequest, unpack_replies
from services.shared.errors import LimitExceeded, TryAgainLater
from services.shared.kept_answers import ACCEPTED, ASKED, FORGET, OPEN, UNKEPT_BYTES, Room, pack_counted
from services.shared.topics import KEPT_ROOM, idempotency_key, kept_answer, kept_room_of

COUNTED_STEPS = 24  # an answer counts up to a 24th of its time longer than it is kept: so much is forgotten at once
TRY_AGAIN = (429, 503)


class NoRoom(TryAgainLater):
    """As many answers, or bytes of them, are kept as the workspace or the caller may have, for `retry_after_s` from now at least."""

    code = "REQUEST_LIMIT_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Asked:
    """A kept request as far as it is known while there is no answer."""

    request_id: str
    owner: str
    owner_kind: str
    endpoint_id: str
    endpoint: str
    entity: str
    accepted_at_ms: int
    deadline_ms: int

    def is_of(self, caller: Token) -> bool:
        return (self.owner, self.owner_kind) == (caller.principal, str(caller.kind))

    def is_too_late(self, at_ms: int) -> bool:
        """No answer will come any more."""
        return at_ms > self.deadline_ms + HOST_GRACE_MS


def asked_by(caller: Token, request: ScoringRequest) -> Asked:
    return Asked(
        request.request_id,
        caller.principal,
        str(caller.kind),
        request.endpoint_id,
        request.endpoint,
        request.entity,
        request.accepted_at_ms,
        request.deadline_ms,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """`reply` None: there is no answer yet. `is_accepted`: its record is in the log; told of a request with a key alone."""

    asked: Asked
    reply: ScoringReply | None
    is_accepted: bool

    def may_be_scored_again(self, at_ms: int) -> bool:
        """For a retry with its key: it was told to try again, or no host ever answered. Whatever else was answered is the answer."""
        return self.asked.is_too_late(at_ms) if self.reply is None else self.reply.status in TRY_AGAIN


@dataclass(frozen=True, slots=True)
class Claim:
    """An `Idempotency-Key` of one caller at one endpoint, and what was asked with it; both as SHA-256 in hex."""

    key: str
    fingerprint: str


def claim_of(caller: Token, endpoint_id: str, key: str, served: str | None, content_type: str, body: bytes) -> Claim:
    asked = sha256(json.dumps([served, content_type]).encode() + body)
    who = json.dumps([caller.principal, str(caller.kind), endpoint_id, key])
    return Claim(sha256(who.encode()).hexdigest(), asked.hexdigest())


class KeptAnswers:
    """Every method raises TryAgainLater when Redis is away."""

    def __init__(self, redis: Redis, settings: IngressSettings) -> None:
        self._redis = redis
        self._kept_ms = int(settings.answer_kept_s * 1000)
        self._all = Room(KEPT_ROOM, settings.max_kept_answers, settings.max_kept_bytes)
        self._share = settings.kept_share

    async def first(self, claim: Claim) -> tuple[Kept, str] | None:
        """What is kept of the request that has the key, and its fingerprint. None: the key is free."""
        async with _reachable():
            value: Any = await self._redis.get(idempotency_key(claim.key))
        if value is None:
            return None
        request_id, _, fingerprint = value.decode().partition(" ")
        kept = await self.look(request_id)
        return (kept, fingerprint) if kept else None

    async def open(self, asked: Asked, claim: Claim | None, instead_of: str = "") -> bool:
        """From now on its answer is kept, and the key is its own. False: another request has the key, which is not `instead_of`.

        Raises also NoRoom.
        """
        ends_ms, step_ms = asked.accepted_at_ms + self._kept_ms, self._kept_ms // COUNTED_STEPS
        at_ms, rooms = now_ms(), [self._all, self._room_of(asked)]
        counted = pack_counted(-(-ends_ms // step_ms) * step_ms, rooms)
        value = f"{asked.request_id} {claim.fingerprint}" if claim else ""
        keys, values = _keys(asked.request_id, claim), (json.dumps(asdict(asked)), counted, at_ms, self._kept_ms, value, instead_of)
        word, *full = await self._run(OPEN, keys, *values, kept_answer(""))
        if word == b"full":
            _refuse(rooms[full[0] - 1], is_own=full[0] == 2, retry_after_s=full[1] / 1000)
        return bool(word == b"opened")

    async def accept(self, request_id: str) -> None:
        """Its record is acknowledged: whoever comes with the same key may be told so."""
        async with _reachable():
            await self._redis.xadd(kept_answer(request_id), {ACCEPTED: b"1"}, nomkstream=True)

    async def look(self, request_id: str) -> Kept | None:
        """None: it never was, or is kept no more."""
        async with _reachable():
            entries: Any = await self._redis.xrange(kept_answer(request_id))
        fields = {name: value for _, entry in entries for name, value in entry.items()}
        if ASKED not in fields:
            return None
        reply = unpack_replies(fields[REPLIES])[0] if REPLIES in fields else None
        if UNKEPT_BYTES in fields:
            reply = _unkept(request_id, int(fields[UNKEPT_BYTES]))
        return Kept(Asked(**json.loads(fields[ASKED])), reply, ACCEPTED in fields)

    async def forget(self, request_id: str, claim: Claim | None) -> None:
        """Nothing was accepted: whoever comes with the same key again is the first. A key that is another request's by now stays."""
        await self._run(FORGET, _keys(request_id, claim), request_id)

    def _room_of(self, asked: Asked) -> Room:
        owner = sha256(json.dumps([asked.owner, asked.owner_kind]).encode()).hexdigest()
        most_answers, most_bytes = (max(1, int(most * self._share)) for most in (self._all.most_answers, self._all.most_bytes))
        return Room(kept_room_of(owner), most_answers, most_bytes)

    async def _run(self, script: str, keys: list[str], *values: str | int) -> Any:
        async with _reachable():
            return await self._redis.eval(script, len(keys), *keys, *values)


def _keys(request_id: str, claim: Claim | None) -> list[str]:
    return [kept_answer(request_id)] + ([idempotency_key(claim.key)] if claim else [])


def _refuse(room: Room, *, is_own: bool, retry_after_s: float) -> NoReturn:
    whose = "of this caller" if is_own else "of the workspace"
    most = f"{room.most_answers} answers or {room.most_bytes} bytes of them are kept {whose} at most"
    raise NoRoom(f"{most}: ask without 'Prefer' and 'Idempotency-Key', or later.", retry_after_s)


def _unkept(request_id: str, size_bytes: int) -> ScoringReply:
    words = f"The request was scored, but there was no room left to keep its answer of {size_bytes} bytes."
    response = error_response(LimitExceeded.code, words)
    return ScoringReply(request_id, response.status_code, "application/json", bytes(response.body))


@asynccontextmanager
async def _reachable() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise TryAgainLater("Answers cannot be kept at the moment.") from error
