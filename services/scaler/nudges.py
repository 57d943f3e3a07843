"""Hears which pools at zero are about to get a request: best effort, so that a wake does not wait for the next tick."""

import asyncio
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.topics import NUDGE_CHANNEL

log = logging.getLogger(__name__)


class Nudges:
    def __init__(self, blocking: Redis) -> None:
        self._redis = blocking
        self._pools: set[str] = set()  # nudged since the last look at all pools
        self._fresh: set[str] = set()  # and of these, not looked at yet
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled; what is said while Redis is away is lost, and the lag shows it."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(NUDGE_CHANNEL)
                    async for message in channel.listen():
                        self.hear(message["data"].decode())
            except (RedisError, OSError):
                log.warning("nudges cannot be heard, trying again", exc_info=True)
                await asyncio.sleep(1)

    def hear(self, pool_id: str) -> None:
        """A pool that cannot wake up is nudged with every request: what comes again before all are looked at is no news."""
        if pool_id not in self._pools:
            self._pools.add(pool_id)
            self._fresh.add(pool_id)
            self._heard.set()

    async def wait(self) -> None:
        """Until there is news."""
        await self._heard.wait()

    def take(self) -> frozenset[str]:
        """Pools nudged since the last call, for a look at all of them."""
        nudged = frozenset(self._pools)
        self._pools.clear()
        self.take_fresh()
        return nudged

    def take_fresh(self) -> frozenset[str]:
        """The news: pools for a look at them alone."""
        fresh = frozenset(self._fresh)
        self._fresh.clear()
        self._heard.clear()
        return fresh
