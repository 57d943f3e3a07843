"""Tells the ingresses, through Redis, which tables cannot be written and why. Best effort: each try of a failed table tells it again."""

import logging
import time
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.presence import forget_table_fault, read_table_faults, report_table_fault

LOOK_EVERY_S = 10.0  # another logger may have told of a table that is this one's now

log = logging.getLogger(__name__)


class TableFaults:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._told: set[str] = set()
        self._looked_at = float("-inf")

    async def failed(self, table: str, message: str) -> None:
        self._told.add(table)
        await self._tell(lambda: report_table_fault(self._redis, table, message))

    async def works(self, table: str) -> None:
        """Costs next to nothing for a table that nothing was told of."""
        if time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            await self._tell(self._look)
        if table in self._told and await self._tell(lambda: forget_table_fault(self._redis, table)):
            self._told.discard(table)

    async def stop(self) -> None:
        await self._redis.aclose()

    async def _look(self) -> None:
        self._told = set(await read_table_faults(self._redis))

    async def _tell(self, command: Callable[[], Awaitable[None]]) -> bool:
        """Twice if need be: after a restart of Redis a connection that was kept is found dead by the first command alone."""
        for tries_left in (1, 0):
            try:
                await command()
                return True
            except (RedisError, OSError) as error:
                if not tries_left:
                    log.warning("faults of tables cannot be exchanged", extra={"error": repr(error)})
        return False
