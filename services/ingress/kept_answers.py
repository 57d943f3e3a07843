"""Answers that outlive their connection, in Redis: a stream for each, with who asked in its first entry and the answer behind it.

Hosts append to it as to the stream of an ingress, so an answer is kept whatever becomes of the process that took the request.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.replies import HOST_GRACE_MS
from services.ingress.settings import IngressSettings
from services.shared.clock import now_ms
from services.shared.endpoints import Token
from services.shared.envelope import REPLIES, ScoringReply, ScoringRequest, unpack_replies
from services.shared.errors import LimitExceeded, TryAgainLater
from services.shared.topics import KEPT_ANSWERS_KEY, idempotency_key, kept_answer

ASKED = b"asked"  # beside it lies what a host answers


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
    """`reply` None: there is no answer yet."""

    asked: Asked
    reply: ScoringReply | None


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
        self._kept_s = int(settings.answer_kept_s)
        self._most = settings.max_kept_answers

    async def claim(self, claim: Claim, request_id: str) -> tuple[str, str]:
        """Request id and fingerprint of the first request with this key: those given, if it is this one."""
        name = idempotency_key(claim.key)
        async with _reachable():
            mine = await self._redis.set(name, f"{request_id} {claim.fingerprint}", nx=True, ex=self._kept_s)
            first: Any = None if mine else await self._redis.get(name)
        if first is None:
            return request_id, claim.fingerprint
        found_id, _, fingerprint = first.decode().partition(" ")
        return found_id, fingerprint

    async def open(self, asked: Asked) -> None:
        """From now on its answer is kept. Raises also LimitExceeded; of calls at the same moment each may be the one too many."""
        name, ends_ms = kept_answer(asked.request_id), asked.accepted_at_ms + self._kept_s * 1000
        async with _reachable():
            await self._redis.zremrangebyscore(KEPT_ANSWERS_KEY, "-inf", now_ms())
            if await self._redis.zcard(KEPT_ANSWERS_KEY) >= self._most:
                raise LimitExceeded(f"{self._most} answers are kept at most: ask without 'Prefer' and 'Idempotency-Key', or later.")
            async with self._redis.pipeline(transaction=True) as commands:
                commands.xadd(name, {ASKED: json.dumps(asdict(asked))})
                commands.expire(name, self._kept_s)
                commands.zadd(KEPT_ANSWERS_KEY, {asked.request_id: ends_ms})
                await commands.execute()

    async def look(self, request_id: str) -> Kept | None:
        """None: it never was, or is kept no more."""
        async with _reachable():
            entries: Any = await self._redis.xrange(kept_answer(request_id), count=3)
        asked = next((Asked(**json.loads(fields[ASKED])) for _, fields in entries if ASKED in fields), None)
        packed = next((fields[REPLIES] for _, fields in entries if REPLIES in fields), None)
        return Kept(asked, unpack_replies(packed)[0] if packed else None) if asked else None

    async def forget(self, request_id: str, claim: Claim | None) -> None:
        """Nothing was accepted: whoever comes with the same key again is the first."""
        async with _reachable(), self._redis.pipeline(transaction=True) as commands:
            commands.delete(kept_answer(request_id), *([idempotency_key(claim.key)] if claim else []))
            commands.zrem(KEPT_ANSWERS_KEY, request_id)
            await commands.execute()


@asynccontextmanager
async def _reachable() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise TryAgainLater("Answers cannot be kept at the moment.") from error
