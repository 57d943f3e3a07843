"""Kept answers in a real Redis; the host that answers is the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from starlette.requests import ClientDisconnect

from services.ingress.connections import tell_gone
from services.ingress.invocation import Answered, Asking, Invoked
from services.ingress.kept_answers import Kept, KeptAnswers, NoRoom
from services.ingress.kept_invocations import KeptInvocations
from services.ingress.preferences import Preferences
from services.ingress.replies import HOST_GRACE_MS, Replies, Waiting
from services.ingress.settings import IngressSettings
from services.scorer.replies import pack_by_stream, send_replies
from services.shared.clock import now_ms
from services.shared.endpoints import Token
from services.shared.envelope import ScoringReply, ScoringRequest, new_request_id
from services.shared.errors import DeadlineExceeded, KeyReused, LimitExceeded, TryAgainLater
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from services.shared.topics import KEPT_ROOM, kept_answer

ASYNC = Preferences(is_async=True)
PATIENT = Preferences(is_async=True, wait_s=30)
DEADLINE_MS = 60_000
TOO_OLD_MS = DEADLINE_MS + HOST_GRACE_MS + 1
ADA, EVE = Token("t", "ada"), Token("x", "eve")


class Process:
    """An ingress process that accepts requests as one does. `refuses`: what is raised instead of being sent.

    `routes` and `sends` hold up what comes there until they are set.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.replies = Replies()
        self.refuses: Exception | None = None
        self.routes, self.sends, self.acknowledges = asyncio.Event(), asyncio.Event(), True
        self.routing = self.sending = 0
        self.routes.set()
        self.sends.set()
        self.stream = f"penstock:replies:{uuid4().hex}"
        self.invocations = KeptInvocations(world.kept, self, world.settings)

    def endpoint_of(self, asking: Asking) -> str:
        return "e1"

    async def expect(self, asking: Asking, change: Callable[[ScoringRequest], ScoringRequest]) -> Waiting:
        self.routing += 1
        await self.routes.wait()
        now, who = now_ms() - self.world.age_ms, asking.caller.principal
        request_id, content_type = new_request_id(), "application/json"
        request = ScoringRequest(
            request_id, "e1", "churn", "a", "s", who, now, now + DEADLINE_MS, self.stream, request_id, content_type, "", 1, asking.body
        )  # its table is drawn by its id
        return self.replies.expected(change(request), "p", 0, 1)

    async def send(self, waiting: Waiting) -> None:
        self.sending += 1
        refuses = self.refuses
        await self.sends.wait()
        if refuses:
            raise refuses
        self.world.sent.append(waiting.request)
        if self.acknowledges:
            waiting.acknowledge()

    def invoke(
        self, preferences: Preferences, body: bytes = b"{}", caller: Token = ADA, scope: dict[str, Any] | None = None
    ) -> "asyncio.Task[Answered]":
        asking = Asking(Invoked("churn", None), caller, "application/json", "", body, {"type": "http"} if scope is None else scope)
        return asyncio.create_task(self.invocations.invoke(asking, preferences))


class CountedLooks(KeptAnswers):
    looks = 0

    async def look(self, request_id: str) -> Kept | None:
        found = await super().look(request_id)
        self.looks += 1
        return found


class World:
    """Ingress processes over one Redis, and the host that answers them."""

    def __init__(self, redis: Redis, settings: IngressSettings) -> None:
        self.redis = redis
        self.settings = settings
        self.sent: list[ScoringRequest] = []
        self.age_ms = 0  # so long ago is accepted what is sent
        self.kept = CountedLooks(redis, settings)
        self.here, self.there = self.processes = Process(self), Process(self)
        self.invoke = self.here.invoke

    async def answer(self, number: int, body: bytes = b"1", *, status: int = 200, ingress_is_there: bool = True) -> None:
        """The host's half of one request."""
        await until(lambda: len(self.sent) > number)
        request = self.sent[number]
        reply = ScoringReply(request.request_id, status, "application/json", body)
        await send_replies(self.redis, pack_by_stream((stream, reply) for stream in request.reply_to.split()), "replica")
        for process in self.processes:
            if ingress_is_there:
                process.replies.settle(reply, "replica")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def end(task: "asyncio.Task[Answered]") -> None:
    """Its process dies, or nearly so."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    redis = new_redis(redis_settings)
    await redis.flushdb()
    yield redis
    await redis.aclose()


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis, IngressSettings())


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
    assert (looked.reply, looked.asked.is_of(ADA), looked.asked.is_of(EVE)) == (None, True, False)
    await world.answer(0, b"42", ingress_is_there=False)
    looked = await world.kept.look(request.request_id)
    assert looked
    assert looked.reply
    assert looked.reply.body == b"42"


@pytest.mark.parametrize("preferences", [ASYNC, PATIENT, Preferences(key="a")], ids=["a job", "a wait", "a key"])
async def test_a_kept_request_keeps_the_id_its_table_was_drawn_by(world: World, preferences: Preferences) -> None:
    asked = world.invoke(preferences)
    await world.answer(0)
    [request] = world.sent
    assert request.table == request.request_id == (await asked).request_id


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
    await end(dead)
    assert (await world.there.invoke(again)).reply.body == b"42"
    assert len(world.sent) == 1


async def test_a_key_is_of_one_caller_and_one_request(world: World) -> None:
    again = key()
    first = world.invoke(again)
    await world.answer(0)
    await first
    with pytest.raises(KeyReused):
        await world.invoke(again, body=b"other")
    others = world.invoke(again, body=b"other", caller=EVE)
    await world.answer(1, b"hers")
    assert (await others).reply.body == b"hers"


@pytest.mark.parametrize("refusal", [TryAgainLater("full"), LimitExceeded("too many")], ids=["for now", "for good"])
async def test_what_was_not_accepted_holds_no_key(world: World, refusal: Exception) -> None:
    again = key()
    world.here.refuses = refusal
    with pytest.raises(type(refusal)):
        await world.invoke(again)
    world.here.refuses = None
    retried = world.invoke(again)
    await world.answer(0, b"42")
    assert (await retried).reply.body == b"42"


async def test_a_key_whose_answer_is_lost_is_free(world: World) -> None:
    again = key()
    first = world.invoke(again)
    await world.answer(0)
    await first
    await world.redis.delete(*await world.redis.keys("penstock:answer:*"))
    retried = world.invoke(again)
    await world.answer(1, b"42")
    assert (await retried).reply.body == b"42"


async def test_when_no_answer_came_the_next_who_comes_with_the_key_is_scored(world: World) -> None:
    again, world.age_ms = key(), TOO_OLD_MS
    dead = world.invoke(again)
    await until(lambda: len(world.sent) == 1)
    await end(dead)
    world.age_ms = 0
    retried = world.there.invoke(again)
    await world.answer(1, b"42")
    assert (await retried).reply.body == b"42"


async def test_who_follows_a_request_that_gets_no_answer_is_told_so_when_its_deadline_has_passed(world: World) -> None:
    again, world.age_ms = key(), TOO_OLD_MS - 500
    dead = world.invoke(again)
    await until(lambda: len(world.sent) == 1)
    with pytest.raises(DeadlineExceeded):
        await world.there.invoke(again)
    await end(dead)


@pytest.mark.parametrize("status", [429, 503])
async def test_after_an_answer_that_says_try_again_a_retry_is_scored(world: World, status: int) -> None:
    again = key()
    first, follower = world.invoke(again), world.there.invoke(again)
    await until(lambda: len(world.sent) == 1 and world.kept.looks > 0)  # one is sent, the other waits for it
    await world.answer(0, b"removed", status=status)
    assert [(await asked).reply.status for asked in (first, follower)] == [status] * 2, "who waited for it gets it"
    retries = [process.invoke(again) for process in world.processes]
    await world.answer(1, b"42")
    assert [(await retried).reply.body for retried in retries] == [b"42"] * 2
    assert len({request.request_id for request in world.sent}) == len(world.sent) == 2, "each has a row of its own"


@pytest.mark.parametrize("status", [400, 500, 504])
async def test_any_other_answer_is_the_answer_for_good(world: World, status: int) -> None:
    again = key()
    first = world.invoke(again)
    await world.answer(0, status=status)
    await first
    assert (await world.invoke(again)).reply.status == status
    assert len(world.sent) == 1


async def test_who_follows_a_request_that_is_refused_comes_first_again_and_is_scored_once_with_all_others(world: World) -> None:
    """A follower that had seen the key go asked without it, beside the next who claimed it: two rows for one key."""
    again, world.here.refuses = key(), TryAgainLater("full")
    world.here.sends.clear()
    refused = world.here.invoke(again)
    await until(lambda: world.here.sending == 1)
    world.here.refuses = None
    followers = [process.invoke(again) for process in world.processes * 3]
    await until(lambda: world.kept.looks >= 2 * len(followers))  # all follow
    world.here.sends.set()
    with pytest.raises(TryAgainLater):
        await refused
    await world.answer(0, b"42")
    assert [(await asked).reply.body for asked in followers] == [b"42"] * 6
    assert len(world.sent) == 1


@pytest.mark.parametrize("slow", ["here", "there"], ids=["in the same process", "in another process"])
async def test_of_those_who_are_slow_and_one_who_is_not_one_is_scored_and_nobody_hangs(world: World, slow: str) -> None:
    """Others took the key of who was slow, with its id: in one process the second waited for it instead of the first."""
    again, process = key(), getattr(world, slow)
    process.routes.clear()
    slow_ones = [process.invoke(again) for _ in range(3)]
    await until(lambda: bool(process.routing == 3))
    quick = world.here if slow == "there" else world.there
    first = quick.invoke(again)
    await until(lambda: len(world.sent) == 1)
    process.routes.set()
    await world.answer(0, b"42")
    assert [(await asked).reply.body for asked in (first, *slow_ones)] == [b"42"] * 4
    assert (len(world.sent), len(world.here.replies), len(world.there.replies)) == (1, 0, 0)


async def test_those_who_come_at_the_same_moment_are_scored_once(world: World) -> None:
    again = key()
    asked = [process.invoke(again) for process in world.processes * 8]
    await world.answer(0, b"42")
    assert [(await one).reply.body for one in asked] == [b"42"] * 16
    assert (len(world.sent), len(world.here.replies), len(world.there.replies)) == (1, 0, 0)


@pytest.mark.parametrize("how", ["refused", "gone"])
async def test_whoever_lost_the_key_takes_nothing_from_who_has_it(world: World, how: str) -> None:
    again, world.age_ms, world.here.refuses = key(), TOO_OLD_MS, TryAgainLater("full")
    world.here.sends.clear()
    loser = world.here.invoke(again)
    await until(lambda: world.here.sending == 1)
    world.age_ms = 0
    holder = world.there.invoke(again)
    await until(lambda: len(world.sent) == 1)
    if how == "gone":
        loser.cancel()
    world.here.sends.set()
    await asyncio.gather(loser, return_exceptions=True)
    retried = world.there.invoke(again)
    await world.answer(0, b"42")
    assert [(await asked).reply.body for asked in (holder, retried)] == [b"42"] * 2
    assert len(world.sent) == 1


async def test_no_202_goes_out_before_the_record_is_acknowledged(world: World) -> None:
    again, world.here.acknowledges = Preferences(True, key=uuid4().hex), False
    asked = world.here.invoke(again)
    await until(lambda: len(world.sent) == 1)
    follower = world.there.invoke(again)
    done, _ = await asyncio.wait([asked, follower], timeout=0.3)
    [held] = world.here.replies.unanswered()
    assert (done, world.here.replies.routed_from(9)) == (set(), 1), "it is produced again if need be, and holds its pool"
    held.acknowledge()
    assert [(await one).reply.status for one in (asked, follower)] == [202, 202]


async def test_a_202_whose_record_is_never_acknowledged_becomes_a_504(world: World) -> None:
    world.here.acknowledges = False
    asked = world.here.invoke(ASYNC)
    await until(lambda: len(world.sent) == 1)
    world.here.replies.expire(now_ms() + 4_000_000)
    with pytest.raises(DeadlineExceeded):
        await asked


@pytest.mark.parametrize("preferences", [ASYNC, key()], ids=["a job", "a key"])
async def test_after_a_hang_up_the_work_goes_on_until_it_is_in_the_log(world: World, preferences: Preferences) -> None:
    scope: dict[str, Any] = {"type": "http"}
    world.here.acknowledges = False
    asked = world.here.invoke(preferences, scope=scope)
    await until(lambda: len(world.sent) == 1)
    tell_gone(scope)
    done, _ = await asyncio.wait([asked], timeout=0.1)
    [waiting] = world.here.replies.unanswered()
    assert not done
    waiting.acknowledge()
    with pytest.raises(ClientDisconnect):
        await asked
    assert await world.kept.look(world.sent[0].request_id)


async def test_no_caller_keeps_more_answers_than_its_share(redis: Redis) -> None:
    world = World(redis, IngressSettings(max_kept_answers=3, kept_share=0.7))
    for _ in range(2):
        await world.invoke(ASYNC)
    with pytest.raises(NoRoom, match=r"2 answers or .* bytes of them are kept of this caller at most") as refused:
        await world.invoke(ASYNC)
    assert 86_400 <= refused.value.retry_after_s <= 90_000, "when an answer is kept no more"
    await world.invoke(ASYNC, caller=EVE)
    with pytest.raises(NoRoom, match=r"3 answers or .* of the workspace"):
        await world.invoke(ASYNC, caller=EVE)
    assert len(world.sent) == 3


async def test_no_caller_keeps_more_bytes_than_its_share_and_one_answer(redis: Redis) -> None:
    world = World(redis, IngressSettings(max_kept_bytes=2_000, kept_share=0.5))
    again = key()
    job, keyed = await world.invoke(ASYNC), world.invoke(again)
    await until(lambda: len(world.sent) == 2)
    await world.answer(0, b"1" * 1_500)
    await world.answer(1, b"2" * 1_500)
    assert (await keyed).reply.body == b"2" * 1_500, "who waits for it gets it"
    retried = (await world.invoke(again)).reply
    assert (retried.status, b"no room left to keep its answer of 15" in retried.body) == (400, True)
    with pytest.raises(NoRoom, match="or 1000 bytes of them are kept of this caller"):
        await world.invoke(ASYNC)
    hers = await world.invoke(ASYNC, caller=EVE)
    await world.answer(2, b"3" * 1_500)
    kept = [await world.kept.look(answered.request_id) for answered in (job, hers)]
    assert [one.reply.body[:1] for one in kept if one and one.reply] == [b"1", b"3"]


async def test_the_first_answer_to_a_request_is_kept_and_counted(world: World) -> None:
    job = await world.invoke(ASYNC)
    await world.answer(0, b"first")
    await world.answer(0, b"again, by another host")
    kept = await world.kept.look(job.request_id)
    assert kept
    assert kept.reply
    assert kept.reply.body == b"first"
    assert await world.redis.xlen(kept_answer(job.request_id)) == 2


async def test_what_was_not_accepted_takes_no_room(redis: Redis) -> None:
    world = World(redis, IngressSettings(max_kept_answers=1, kept_share=1))
    world.here.refuses = TryAgainLater("full")
    for _ in range(2):
        with pytest.raises(TryAgainLater, match="full"):
            await world.invoke(ASYNC)


async def test_what_is_kept_no_more_takes_no_room(redis: Redis) -> None:
    world = World(redis, IngressSettings(max_kept_answers=1, kept_share=1))
    await world.invoke(ASYNC)
    for room in await redis.keys(f"{KEPT_ROOM}*"):
        [[field, count]] = (await redis.hgetall(room)).items()
        await redis.hset(room, f"{now_ms()}:answers", count)  # a day later
        await redis.hdel(room, field)
    await world.invoke(ASYNC)
