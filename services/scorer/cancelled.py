"""The requests of this pool whose callers hung up, as far as this host has heard (R15)."""

import asyncio
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared import clock
from services.shared.cancelled import FROM_THE_START, read_cancelled

BLOCK_MS = 1_000
PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Cancelled:
    """`request_id in cancelled` asks nobody: what was said is read in the background, and kept until its deadline."""

    def __init__(self, redis: Redis, blocking: Redis, pool_id: str) -> None:
        self._redis = redis
        self._blocking = blocking
        self._pool_id = pool_id
        self._after = FROM_THE_START
        self._deadlines: dict[str, int] = {}

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._deadlines

    async def catch_up(self) -> None:
        """Read what was said before this host was there; without Redis that is nothing."""
        try:
            await self._read(self._redis, None)
        except (RedisError, OSError) as error:
            log.warning("cancelled requests cannot be read now", extra={"error": repr(error)})

    async def run(self) -> None:
        """Runs until its task is cancelled. While Redis is away, requests without a caller are scored like any other."""
        while True:
            try:
                await self._read(self._blocking, BLOCK_MS)
            except (RedisError, OSError) as error:
                log.warning("cancelled requests cannot be read now", extra={"error": repr(error)})
                await asyncio.sleep(PAUSE_S)

    async def _read(self, redis: Redis, block_ms: int | None) -> None:
        self._after, news = await read_cancelled(redis, self._pool_id, self._after, block_ms)
        now_ms = clock.now_ms()
        self._deadlines = {i: d for i, d in (self._deadlines | news).items() if d > now_ms}
