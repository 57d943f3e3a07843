"""Counts of several processes, through a real Redis."""

from uuid import uuid4

from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from services.shared.tallies import BUCKETS, LATENCY, STATUS, SUM_US, Tallies, read_tallies


async def test_what_two_processes_count_is_one_sum(redis_settings: RedisSettings) -> None:
    redis = new_redis(redis_settings)
    one, other, busy, quiet = Tallies(redis), Tallies(redis), uuid4().hex, uuid4().hex
    try:
        for tallies, status in ((one, 200), (other, 200), (other, 429)):
            tallies.answered(busy, "a", status)
            tallies.observe(busy, "a", LATENCY, 7.5)
            await tallies.add()
            await tallies.add()
        found = await read_tallies(redis, [quiet, busy])
        assert dict(found[busy].last_minute) == {("a", STATUS, "2xx"): 2, ("a", STATUS, "4xx"): 1}
        assert dict(found[busy].ever) == {
            ("a", STATUS, "2xx"): 2,
            ("a", STATUS, "4xx"): 1,
            ("a", LATENCY, BUCKETS[1]): 3,
            ("a", LATENCY, SUM_US): 22_500,
        }
        assert (found[quiet].ever, found[quiet].last_minute) == ({}, {})
        assert await read_tallies(redis, []) == {}
    finally:
        await redis.aclose()
