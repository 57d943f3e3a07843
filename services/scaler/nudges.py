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
        self._pools: set[str] = set()
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled; what is said while Redis is away is lost, and the lag shows it."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(NUDGE_CHANNEL)
                    async for message in channel.listen():
                        self._pools.add(message["data"].decode())
                        self._heard.set()
            except (RedisError, OSError):
                log.warning("nudges cannot be heard, trying again", exc_info=True)
                await asyncio.sleep(1)

    async def wait(self) -> None:
        await self._heard.wait()

    def take(self) -> frozenset[str]:
        """Pools nudged since the last call."""
        self._heard.clear()
        nudged, self._pools = frozenset(self._pools), set()
        return nudged
