"""Requests whose callers hung up: what has not started is a 499 row, what has is finished (R15)."""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

from redis.asyncio import Redis

from services.scorer.cancelled import Cancelled
from services.shared.cancelled import publish_cancelled
from services.shared.envelope import ScoringRequest
from services.shared.redis_clients import new_blocking_redis, new_redis
from services.shared.settings import RedisSettings
from services.shared.topics import cancelled_stream
from tests.integration.scorer.bench import PARTITIONS, PATIENCE_S, Bench


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def hang_up(bench: Bench, *requests: ScoringRequest) -> None:
    await publish_cancelled(bench.redis, {bench.pool_id: {r.request_id: r.deadline_ms for r in requests}})


async def test_what_has_not_started_is_logged_as_499_and_what_has_is_finished(bench: Bench) -> None:
    early, late = await bench.send(1), await bench.send(1, 1, wait_s=-1)
    await hang_up(bench, early)  # no host was there to hear it
    await hang_up(bench, late)
    await bench.start()
    await bench.phase("ready")
    started = [await bench.send(2_000 + n, n) for n in range(4)]
    await bench.busy(4)
    queued = [await bench.send(700 + n, n % PARTITIONS) for n in range(8)]
    served = await bench.send(3)
    await hang_up(bench, *started[:2], *queued)
    assert [a.status for a in await bench.answers(*started, served, late)] == [200] * 5 + [504]
    await bench.lag_is_zero()
    rows = await bench.rows(early, late, *started, *queued, served)
    assert [row.status for row in rows] == [499, 504, *[200] * 4, *[499] * 8, 200]
    assert {(row.duration_ms, (row.client_request_id or "")[:6]) for row in rows if row.status == 499} == {(0, "mine 1"), (0, "mine 7")}
    assert not {early.request_id, *(r.request_id for r in queued)} & {reply.request_id for reply in await bench.replies()}


async def test_what_was_told_is_heard_by_a_host_that_comes_later_until_its_deadline(redis_settings: RedisSettings) -> None:
    redis, blocking, pool_id = new_redis(redis_settings), new_blocking_redis(redis_settings), uuid4().hex
    stream, heard = cancelled_stream(pool_id), Cancelled(redis, blocking, pool_id)
    await publish_cancelled(redis, {pool_id: {"a": now_ms() + 60_000, "gone": now_ms() - 1}})
    await redis.xadd(stream, {b"p": b"\xc1 no pack"})
    await redis.xadd(stream, {b"p": b"\x01"})
    await heard.catch_up()
    assert ["a" in heard, "gone" in heard, "b" in heard] == [True, False, False]
    running = asyncio.create_task(heard.run(), name="cancelled")
    try:
        await publish_cancelled(redis, {pool_id: {"b": now_ms() + 2_000}})
        await until(lambda: "b" in heard)
        assert await redis.pttl(stream) > 60_000, "a shorter deadline does not cost a longer one its entry"
        await until(lambda: "b" not in heard)
        assert "a" in heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await close(redis, blocking)


async def close(*clients: Redis) -> None:
    for client in clients:
        await client.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)
