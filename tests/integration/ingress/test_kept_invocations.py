"""Kept answers in a real Redis; the host that answers is the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from services.ingress.invocation import Answered, Asking, Invoked
from services.ingress.kept_answers import KeptAnswers
from services.ingress.kept_invocations import KeptInvocations
from services.ingress.preferences import Preferences
from services.ingress.replies import Replies, Waiting
from services.ingress.settings import IngressSettings
from services.scorer.replies import pack_by_stream, send_replies
from services.shared.clock import now_ms
from services.shared.endpoints import Token
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import DeadlineExceeded, KeyReused, LimitExceeded, TryAgainLater
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from services.shared.topics import idempotency_key

ASYNC = Preferences(is_async=True)
PATIENT = Preferences(is_async=True, wait_s=30)
ADA = Token("t", "ada")


class World:
    """Accepts requests as an ingress does, and answers them as a host does. `refuses`: what is raised instead of being sent."""

    def __init__(self, redis: Redis, settings: IngressSettings) -> None:
        self.redis = redis
        self.replies = Replies()
        self.sent: list[ScoringRequest] = []
        self.refuses: Exception | None = None
        self.deadline_ms = 60_000
        self.stream = f"penstock:replies:{uuid4().hex}"
        self.kept = KeptAnswers(redis, settings)
        self.invocations = KeptInvocations(self.kept, self, settings.async_deadline_s)

    def endpoint_of(self, asking: Asking) -> str:
        return "e1"

    async def expect(self, asking: Asking, change: Callable[[ScoringRequest], ScoringRequest]) -> Waiting:
        now = now_ms()
        request = ScoringRequest(
            "", "e1", "churn", "a", "s", "ada", now, now + self.deadline_ms, self.stream, "", "application/json", "", 1, asking.body
        )  # fmt: skip
        return self.replies.expected(change(request), "p", 0, 1)

    async def send(self, waiting: Waiting) -> None:
        if self.refuses:
            raise self.refuses
        self.sent.append(waiting.request)

    async def answer(self, number: int, body: bytes = b"1", *, ingress_is_there: bool = True) -> None:
        """The host's half of one request."""
        async with asyncio.timeout(10):
            while len(self.sent) <= number:
                await asyncio.sleep(0.01)
        request = self.sent[number]
        reply = ScoringReply(request.request_id, 200, "application/json", body)
        await send_replies(self.redis, pack_by_stream((stream, reply) for stream in request.reply_to.split()), "replica")
        if ingress_is_there:
            self.replies.settle(reply, "replica")

    def invoke(self, preferences: Preferences, body: bytes = b"{}", caller: Token = ADA) -> "asyncio.Task[Answered]":
        scope: dict[str, Any] = {"type": "http"}
        asking = Asking(Invoked("churn", None), caller, "application/json", "", body, scope)
        return asyncio.create_task(self.invocations.invoke(asking, preferences))


@pytest.fixture
async def world(redis_settings: RedisSettings) -> AsyncIterator[World]:
    redis = new_redis(redis_settings)
    await redis.flushdb()
    yield World(redis, IngressSettings(max_kept_answers=3))
    await redis.aclose()


def key() -> Preferences:
    return Preferences(key=uuid4().hex)


async def test_a_202_says_where_the_answer_will_be_and_there_it_is(world: World) -> None:
    accepted = await world.invoke(ASYNC)
    [request] = world.sent
    headers = dict(accepted.headers)
    assert (accepted.reply.status, accepted.is_scored) == (202, False)
    assert headers[b"location"] == f"/serving-endpoints/churn/invocations/{request.request_id}".encode()
    assert headers[b"preference-applied"] == b"respond-async"
    assert request.deadline_ms - request.accepted_at_ms == 3_600_000
    looked = await world.kept.look(request.request_id)
    assert looked
    assert (looked.reply, looked.asked.is_of(ADA), looked.asked.is_of(Token("x", "eve"))) == (None, True, False)
    await world.answer(0, b"42", ingress_is_there=False)
    looked = await world.kept.look(request.request_id)
    assert looked
    assert looked.reply
    assert looked.reply.body == b"42"


async def test_who_waits_a_while_gets_a_quick_answer_at_once(world: World) -> None:
    asked = world.invoke(PATIENT)
    await world.answer(0, b"42")
    assert ((await asked).reply.body, (await asked).is_scored) == (b"42", True)


async def test_a_retry_finds_the_first_answer_instead_of_scoring_twice(world: World) -> None:
    again = key()
    first = world.invoke(again)
    second = world.invoke(again)
    await world.answer(0, b"42")
    third = world.invoke(again)
    bodies = [answered.reply.body for answered in (await first, await second, await third)]
    assert (bodies, len(world.sent)) == ([b"42"] * 3, 1)
    assert [(await asked).is_scored for asked in (first, second, third)] == [True, False, False]
    assert dict((await third).headers)[b"idempotency-replayed"] == b"true"
    assert (await world.invoke(Preferences(True, key=again.key))).reply.body == b"42", "also one that would take a 202"


async def test_a_retry_finds_the_answer_although_the_ingress_that_took_the_request_is_gone(world: World) -> None:
    again = key()
    dead = world.invoke(again)
    await world.answer(0, b"42", ingress_is_there=False)
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    assert (await world.invoke(again)).reply.body == b"42"
    assert len(world.sent) == 1


async def test_a_key_is_of_one_caller_and_one_request(world: World) -> None:
    again = key()
    first = world.invoke(again)
    await world.answer(0)
    await first
    with pytest.raises(KeyReused):
        await world.invoke(again, body=b"other")
    others = world.invoke(again, body=b"other", caller=Token("x", "eve"))
    await world.answer(1, b"hers")
    assert (await others).reply.body == b"hers"


@pytest.mark.parametrize("refusal", [TryAgainLater("full"), LimitExceeded("too many")], ids=["for now", "for good"])
async def test_what_was_not_accepted_holds_no_key(world: World, refusal: Exception) -> None:
    again = key()
    world.refuses = refusal
    with pytest.raises(type(refusal)):
        await world.invoke(again)
    world.refuses = None
    retried = world.invoke(again)
    await world.answer(0, b"42")
    assert (await retried).reply.body == b"42"


async def test_a_key_whose_holder_died_before_it_was_of_use_is_taken_over(world: World) -> None:
    again = key()
    first = world.invoke(again)
    await world.answer(0)
    await first
    await world.redis.delete(*await world.redis.keys("penstock:answer:*"))  # as if it had died before it opened the answer
    retried = world.invoke(again)
    await world.answer(1, b"42")
    assert (await retried).reply.body == b"42"
    assert world.sent[0].request_id == world.sent[1].request_id, "one row, should both be scored"


async def test_when_no_answer_came_the_key_is_free_again(world: World) -> None:
    again, world.deadline_ms = key(), -3_000
    dead = world.invoke(again)
    async with asyncio.timeout(10):
        while not world.sent:
            await asyncio.sleep(0.01)
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    with pytest.raises(DeadlineExceeded):
        await world.invoke(again)
    assert await world.redis.keys(idempotency_key("*")) == []


async def test_no_more_is_kept_than_the_limit(world: World) -> None:
    for _ in range(3):
        await world.invoke(ASYNC)
    with pytest.raises(LimitExceeded, match="3 answers are kept at most"):
        await world.invoke(ASYNC)
    assert len(world.sent) == 3
