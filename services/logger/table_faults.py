"""Tells the ingresses, through Redis, which tables cannot be written and why. Best effort: each try of a failed table tells it again."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.presence import forget_table_fault, read_table_faults, report_table_fault

log = logging.getLogger(__name__)


class TableFaults:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._told: set[str] | None = None  # None: what loggers before this one told is not known yet

    async def failed(self, table: str, message: str) -> None:
        try:
            await report_table_fault(self._redis, table, message)
            if self._told is not None:
                self._told.add(table)
        except (RedisError, OSError) as error:
            log.warning("a failed table cannot be told", extra={"table": table, "error": repr(error)})

    async def works(self, table: str) -> None:
        """Costs nothing for a table that nothing was told of."""
        try:
            if self._told is None:
                self._told = set(await read_table_faults(self._redis))
            if table in self._told:
                await forget_table_fault(self._redis, table)
                self._told.discard(table)
        except (RedisError, OSError) as error:
            log.warning("a mended table cannot be told", extra={"table": table, "error": repr(error)})

    async def stop(self) -> None:
        await self._redis.aclose()
