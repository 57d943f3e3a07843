"""The two ways a Redis client is made: for commands, and for one blocking reader (traps A2, C9, C10)."""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout

from services.shared.settings import RedisSettings

LIMIT_S = 5.0


def new_redis(settings: RedisSettings) -> Redis:
    """For commands that may be repeated. Nothing is retried inside: each loop owns its own backoff."""
    return _new_redis(settings, LIMIT_S)


def new_blocking_redis(settings: RedisSettings) -> Redis:
    """For a single XREAD BLOCK loop: a socket timeout would end the wait."""
    return _new_redis(settings, None)


def _new_redis(settings: RedisSettings, limit_s: float | None) -> Redis:
    pool = ConnectionPool.from_url(
        settings.url, retry=Retry(NoBackoff(), 0), socket_timeout=limit_s, socket_connect_timeout=LIMIT_S, protocol=3
    )
    pool.connection_class = type(f"Cancellable{pool.connection_class.__name__}", (_Cancellable, pool.connection_class), {})
    return Redis.from_pool(pool)


class _Cancellable(AbstractConnection):
    """Sends within its time limit, and lets itself be cancelled meanwhile.

    redis-py sends in `asyncio.wait_for`, which on Python 3.11 forgets a cancellation that comes as the sending ends (cpython #86296):
    a task that reports once a second then lives for ever, and its process never leaves.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        limit_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError as error:
            raise RedisTimeout("Timeout writing to socket") from error
        finally:
            self.socket_timeout = limit_s
