"""Tells the hosts of a pool which of its requests nobody waits for any more (R15): in the background, many at once."""

import asyncio
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.cancelled import publish_cancelled

log = logging.getLogger(__name__)


class Cancellations:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._news: dict[str, dict[str, int]] = {}
        self._some = asyncio.Event()

    def tell(self, pool_id: str, request_id: str, deadline_ms: int) -> None:
        """Best effort, without waiting."""
        self._news.setdefault(pool_id, {})[request_id] = deadline_ms
        self._some.set()

    async def run(self) -> None:
        """Runs until cancelled: what comes while one round is under way goes with the next."""
        while True:
            await self._some.wait()
            self._some.clear()
            news, self._news = self._news, {}
            try:
                await publish_cancelled(self._redis, news)
            except (RedisError, OSError) as error:
                log.warning("hang-ups cannot be told: their requests are scored", extra={"error": repr(error)})
