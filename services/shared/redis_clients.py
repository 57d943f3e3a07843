"""The two ways a Redis client is made: for commands, and for one blocking reader (traps A2, C9, C10)."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.shared.settings import RedisSettings


def new_redis(settings: RedisSettings) -> Redis:
    """For commands that may be repeated. Nothing is retried inside: each loop owns its own backoff."""
    return Redis.from_url(settings.url, retry=Retry(NoBackoff(), 0), socket_timeout=5.0, socket_connect_timeout=5.0, protocol=3)


def new_blocking_redis(settings: RedisSettings) -> Redis:
    """For a single XREAD BLOCK loop: a socket timeout would end the wait, and on Python 3.11 swallow a cancellation."""
    return Redis.from_url(settings.url, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=5.0, protocol=3)
