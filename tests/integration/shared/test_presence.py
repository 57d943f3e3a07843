"""Reports through a real Redis."""

from uuid import uuid4

from services.shared.presence import (
    KEPT_EVENTS,
    IngressReport,
    PoolEvent,
    forget_ingress,
    keep_pool_event,
    read_ingresses,
    read_pool_events,
    report_ingress,
)
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from services.shared.topics import INGRESSES_KEY, pool_events_key


async def test_the_newest_events_of_a_pool_are_kept(redis_settings: RedisSettings) -> None:
    redis, pool_id = new_redis(redis_settings), uuid4().hex
    events = [PoolEvent(event_type="POOL_RESIZED", message=str(n), at_ms=n) for n in range(KEPT_EVENTS + 5)]
    try:
        for event in events:
            await keep_pool_event(redis, pool_id, event)
        assert sorted(await read_pool_events(redis, [pool_id, uuid4().hex]), key=lambda event: event.at_ms) == events[5:]
    finally:
        await redis.delete(pool_events_key(pool_id))
        await redis.aclose()


async def test_a_report_that_cannot_be_read_is_as_good_as_none(redis_settings: RedisSettings) -> None:
    """It once ended the scaler at every start, since the hash never expires."""
    redis = new_redis(redis_settings)
    mine = IngressReport(ingress_id=uuid4().hex, routed_from=7, at_ms=1_000)
    try:
        await redis.hset(INGRESSES_KEY, "of-another-version", b'{"ingress": 1}')
        await report_ingress(redis, mine)
        assert mine in await read_ingresses(redis, now_ms=1_000)
        assert mine not in await read_ingresses(redis, now_ms=60_000)
        await forget_ingress(redis, mine.ingress_id)
    finally:
        await redis.hdel(INGRESSES_KEY, "of-another-version")
        await redis.aclose()
