"""Requests out and replies in, on a real Kafka and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from services.ingress.replies import Replies
from services.ingress.reply_reader import ReplyReader
from services.ingress.request_log import RequestLog
from services.shared.envelope import ScoringReply, ScoringRequest, new_request_id, pack_replies, parse_request
from services.shared.errors import PayloadTooLarge, TryAgainLater
from services.shared.kafka_clients import new_consumer
from services.shared.redis_clients import new_blocking_redis, new_redis
from services.shared.settings import MIB, KafkaSettings, RedisSettings
from services.shared.topics import MAX_RECORD_BYTES, create_topics, online_queue, online_topic, pool_topic, reply_stream


@pytest.fixture
async def pool_id(kafka: KafkaSettings) -> str:
    pool = uuid4().hex
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await create_topics(admin, [pool_topic(online_queue(pool), 4, kafka)])
    await admin.close()
    return pool


@pytest.fixture
async def requests(kafka: KafkaSettings) -> AsyncIterator[RequestLog]:
    log = RequestLog(kafka)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    client = new_redis(redis_settings)
    yield client
    await client.aclose()


def scoring_request(reply_to: str = "penstock:replies:nobody", body: bytes = b"{}") -> ScoringRequest:
    return ScoringRequest(
        request_id=new_request_id(),
        endpoint_id="1" * 32,
        endpoint="e",
        entity="m",
        served_entity_id="2" * 32,
        requester="admin",
        accepted_at_ms=1,
        deadline_ms=2,
        reply_to=reply_to,
        table="",
        content_type="application/json",
        traceparent="",
        attempt=1,
        body=body,
    )


async def take(kafka: KafkaSettings, pool_id: str, count: int) -> list[tuple[int, ScoringRequest]]:
    consumer: AIOKafkaConsumer = new_consumer(kafka)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(online_topic(pool_id), p) for p in range(4)])
        found: list[tuple[int, ScoringRequest]] = []
        async with asyncio.timeout(30):
            while len(found) < count:
                record = await consumer.getone()
                found.append((record.partition, parse_request(record.headers, record.value, record.key)))
        return found
    finally:
        await consumer.stop()


async def test_a_request_crosses_the_log_untouched(kafka: KafkaSettings, requests: RequestLog, pool_id: str) -> None:
    request, replies = scoring_request(body=b'{"inputs": [1, 2,   3]}\n'), Replies()
    assert await requests.partitions(pool_id) == [0, 1, 2, 3]
    with replies.expected(request, pool_id, 3, routed_at=7) as waiting:
        await requests.send(waiting)
        assert await take(kafka, pool_id, 1) == [(3, request)]


async def test_what_waits_is_produced_again_on_its_own_partition(kafka: KafkaSettings, requests: RequestLog, pool_id: str) -> None:
    request, replies = scoring_request(), Replies()
    with replies.expected(request, pool_id, 2, routed_at=7) as waiting:
        await requests.send(waiting)
        await requests.send_again(replies)
        assert await take(kafka, pool_id, 2) == [(2, request), (2, replace(request, attempt=2))]


async def test_a_record_over_the_limit_is_refused_before_it_is_sent(requests: RequestLog, pool_id: str) -> None:
    replies = Replies()
    with (
        replies.expected(scoring_request(body=b"x" * MAX_RECORD_BYTES), pool_id, 0, routed_at=0) as waiting,
        pytest.raises(PayloadTooLarge),
    ):
        await requests.send(waiting)
    with replies.expected(scoring_request(), pool_id, 0, routed_at=0) as waiting:
        await requests.send(waiting)  # the producer is not wedged by it


async def test_a_pool_without_topic_is_answered_with_try_again(requests: RequestLog) -> None:
    with pytest.raises(TryAgainLater):
        await requests.partitions(uuid4().hex)


async def test_replies_settle_those_who_wait_and_nobody_else(redis: Redis, redis_settings: RedisSettings) -> None:
    ingress_id, replies = uuid4().hex, Replies()
    blocking = new_blocking_redis(redis_settings)
    reader = ReplyReader(blocking, redis, ingress_id, replies, lambda: asyncio.sleep(0))
    await reader.open()
    task = asyncio.create_task(reader.run(), name="reader")
    mine, other = scoring_request(), scoring_request()
    try:
        with replies.expected(mine, "p", 0, 0) as first, replies.expected(other, "p", 0, 0) as second:
            packed = [
                ScoringReply("stranger", 200, "application/json", b"no"),
                ScoringReply(mine.request_id, 200, "application/json", b"yes"),
            ]
            await redis.xadd(reply_stream(ingress_id), {b"p": b"\x00 no pack"})
            await redis.xadd(reply_stream(ingress_id), {b"p": pack_replies(packed)})
            await redis.xadd(reply_stream(ingress_id), {b"p": pack_replies([replace(packed[1], body=b"late")])})
            async with asyncio.timeout(10):
                assert (await first.reply).body == b"yes"
            assert not second.reply.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await blocking.aclose()


async def test_what_was_read_leaves_redis_though_nothing_comes_after_it(redis: Redis, redis_settings: RedisSettings) -> None:
    """The last reply too, which a trim by its own id would keep; the stream itself stays, since hosts make none."""
    ingress_id, stranger = uuid4().hex, ScoringReply("stranger", 200, "text/plain", b"x" * 16 * MIB)
    blocking = new_blocking_redis(redis_settings)
    reader = ReplyReader(blocking, redis, ingress_id, Replies(), lambda: asyncio.sleep(0))
    await reader.open()
    task = asyncio.create_task(reader.run(), name="reader")
    stream = reply_stream(ingress_id)
    try:
        for _ in range(3):
            await redis.xadd(stream, {b"p": pack_replies([stranger])})
        async with asyncio.timeout(10):
            while await redis.xlen(stream):
                await asyncio.sleep(0.01)
        assert await redis.exists(stream)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await blocking.aclose()


async def test_a_lost_stream_is_made_again_and_what_waits_is_produced_again(redis: Redis, redis_settings: RedisSettings) -> None:
    ingress_id, replies, lost = uuid4().hex, Replies(), asyncio.Event()

    async def on_lost() -> None:
        lost.set()

    blocking = new_blocking_redis(redis_settings)
    reader = ReplyReader(blocking, redis, ingress_id, replies, on_lost)
    await reader.open()
    task = asyncio.create_task(reader.run(), name="reader")
    request = scoring_request()
    try:
        await redis.delete(reply_stream(ingress_id))
        async with asyncio.timeout(10):
            await lost.wait()
            with replies.expected(request, "p", 0, 0) as waiting:
                reply = pack_replies([ScoringReply(request.request_id, 200, "application/json", b"yes")])
                assert await redis.xadd(reply_stream(ingress_id), {b"p": reply}, nomkstream=True)
                assert (await waiting.reply).body == b"yes"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await blocking.aclose()


async def test_what_waits_is_produced_again_although_redis_left_twice(
    redis: Redis, redis_settings: RedisSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream was made again and Redis went before anything else was done: the next look finds a stream, and must not stop there."""
    ingress_id, lost, expire = uuid4().hex, asyncio.Event(), redis.expire
    failures = [ConnectionError("gone again")]

    async def on_lost() -> None:
        lost.set()

    async def flaky_expire(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await expire(*args)

    blocking = new_blocking_redis(redis_settings)
    reader = ReplyReader(blocking, redis, ingress_id, Replies(), on_lost)
    await reader.open()
    monkeypatch.setattr(redis, "expire", flaky_expire)
    task = asyncio.create_task(reader.run(), name="reader")
    try:
        await redis.delete(reply_stream(ingress_id))
        async with asyncio.timeout(10):
            await lost.wait()
        assert not failures
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await blocking.aclose()
