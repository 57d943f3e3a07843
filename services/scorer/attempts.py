"""Crashes counted per request, outside the host, so that a delivery after a host's death counts on (R13)."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.topics import attempts_key

REMEMBERED_S = 3_600

log = logging.getLogger(__name__)


class Attempts:
    """Without Redis the host's own count goes on: a poison request must not live for ever because Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, request_id: str, known: int) -> int:
        """Count one more crash after `known` ones; return how many there are now."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.incr(attempts_key(request_id))
                pipe.expire(attempts_key(request_id), REMEMBERED_S)
                counted, _ = await pipe.execute()
            return max(known + 1, int(counted))
        except RedisError as error:
            log.warning("crash is counted here only", extra={"request_id": request_id, "error": repr(error)})
            return known + 1

    async def read(self, request_id: str) -> int:
        try:
            return int(await self._redis.get(attempts_key(request_id)) or 0)
        except RedisError as error:
            log.warning("earlier crashes cannot be read", extra={"request_id": request_id, "error": repr(error)})
            return 0
