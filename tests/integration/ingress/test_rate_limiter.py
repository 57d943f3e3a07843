"""Limits over several ingress processes, through a real Redis."""

import asyncio
import logging
from uuid import uuid4

import pytest

from services.ingress.destinations import Destination
from services.ingress.limits import SLICES
from services.ingress.rate_limiter import RateLimiter
from services.shared.control_events import RateLimit
from services.shared.endpoints import Token
from services.shared.errors import RateLimited
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings

CALLS = 320
ADA = Token("t", "ada")
NOW_S = 1_000_020.0


def destination() -> Destination:
    return Destination(uuid4().hex, "churn", "a", "s", uuid4().hex, "", (RateLimit(calls=CALLS, key="endpoint"),))


def spent(limiter: RateLimiter, to: Destination, calls: int) -> int:
    """How many of `calls` were taken, none of them awaiting anything."""
    taken = 0
    for _ in range(calls):
        try:
            limiter.spend(to, ADA)
        except RateLimited:
            continue
        taken += 1
    return taken


async def test_several_processes_hold_one_limit_and_overshoot_by_a_slice_each(redis_settings: RedisSettings) -> None:
    redis, to = new_redis(redis_settings), destination()
    limiters = [RateLimiter(redis, 1_000_000, 50, lambda: NOW_S) for _ in range(3)]
    tasks = [asyncio.create_task(limiter.run(), name="limits") for limiter in limiters]
    taken = 0
    try:
        for _ in range(60):
            for limiter in limiters:
                taken += spent(limiter, to, CALLS // SLICES)
            await asyncio.sleep(0.02)  # a round trip, at the callers' pace
        assert CALLS <= taken <= CALLS + 3 * 2 * CALLS // SLICES
        assert spent(RateLimiter(redis, 1_000_000, 50, lambda: NOW_S + 60), to, 1) == 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await redis.aclose()


async def test_little_is_told_soon(redis_settings: RedisSettings) -> None:
    redis, to = new_redis(redis_settings), destination()
    one, other = (RateLimiter(redis, 1_000_000, 50, lambda: NOW_S) for _ in range(2))
    try:
        assert spent(one, to, CALLS - 1) == CALLS - 1
        await one.exchange()
        assert spent(other, to, 1) == 1
        await other.exchange()
        assert (spent(one, to, 1), spent(other, to, 1)) == (1, 0)
    finally:
        await redis.aclose()


async def test_without_redis_each_process_holds_the_limit_alone(caplog: pytest.LogCaptureFixture) -> None:
    redis, to = new_redis(RedisSettings(url="redis://127.0.0.1:1")), destination()
    limiter = RateLimiter(redis, 1_000_000, 50, lambda: NOW_S)
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(limiter.run(), name="limits")
        assert spent(limiter, to, CALLS + 5) == CALLS
        async with asyncio.timeout(5):
            while "what was spent of the limits cannot be told" not in caplog.text:
                await asyncio.sleep(0.01)
        assert spent(limiter, to, 1) == 0
        assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await redis.aclose()
