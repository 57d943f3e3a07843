"""Reads this process's reply stream and settles the requests that wait."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.replies import Replies
from services.shared.envelope import REPLICA, REPLIES, unpack_replies
from services.shared.errors import EnvelopeInvalid
from services.shared.settings import MIB
from services.shared.topics import reply_stream

STREAM_TTL_S = 60  # an abandoned stream goes by itself
CHECK_EVERY_S = 1.0
BLOCK_MS = 1_000
ENTRIES_PER_READ = 32  # an entry may hold one 16 MiB reply
SETTLED_AT_ONCE = 16  # a hundred callers answered in one go come back in one go, and every other process idles meanwhile
UNTRIMMED_BYTES = 32 * MIB  # of read replies, and a trim comes at once: large ones must not fill Redis for a second

StreamEntries = dict[bytes, list[list[tuple[bytes, dict[bytes, bytes]]]]]  # what XREAD gives over RESP3

log = logging.getLogger(__name__)


class ReplyReader:
    """One blocking reader for the whole process (R8).

    The stream is made here and never by a scorer. When it is gone, or Redis is another process than before and may have
    lost replies it had taken, the stream is made again if need be and `on_lost` is awaited, which produces again whatever waits.
    """

    def __init__(self, blocking: Redis, redis: Redis, ingress_id: str, replies: Replies, on_lost: Callable[[], Awaitable[None]]) -> None:
        self._blocking = blocking
        self._redis = redis
        self._stream = reply_stream(ingress_id)
        self._replies = replies
        self._on_lost = on_lost
        self._last_id = b"0-0"
        self._checked_at = float("-inf")
        self._untrimmed_bytes = 0
        self._run_id = ""
        self._connected = True
        self._lost = False

    async def open(self) -> None:
        """Make the stream. Raises RedisError."""
        self._run_id = await self._read_run_id()
        self._last_id = cast(bytes, await self._redis.xadd(self._stream, {b"opened": b"1"}))
        await self._redis.expire(self._stream, STREAM_TTL_S)

    async def run(self) -> None:
        """Read until cancelled; a lost connection is retried for ever."""
        while True:
            try:
                await self._check()
                await self._read()
            except (RedisError, OSError) as error:
                log.warning("replies cannot be read, trying again", extra={"error": repr(error)})
                self._checked_at = float("-inf")
                self._connected = False
                await asyncio.sleep(0.2)

    async def close(self) -> None:
        await self._redis.delete(self._stream)

    async def _check(self) -> None:
        """Once a second, or after much was read: keep the stream alive, trim what was read, and notice when it is gone."""
        if time.monotonic() - self._checked_at < CHECK_EVERY_S and self._untrimmed_bytes < UNTRIMMED_BYTES:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.expire(self._stream, STREAM_TTL_S)
            pipeline.xtrim(self._stream, minid=_after(self._last_id), approximate=False)
            alive, _ = await pipeline.execute()
        restarted = not self._connected and self._run_id != await self._read_run_id()
        self._lost = self._lost or restarted or not alive  # stays, should Redis go away again before what waits was produced
        if self._lost:
            log.warning("replies may have been lost, what waits is produced again", extra={"stream": self._stream})
            if alive:
                await self._read()  # answers that outlived the restart are not asked for again
            await self.open()
            await self._on_lost()
            self._lost = False
        self._connected = True
        self._untrimmed_bytes = 0
        self._checked_at = time.monotonic()

    async def _read_run_id(self) -> str:
        return str((await self._redis.info("server"))["run_id"])

    async def _read(self) -> None:
        found = await self._blocking.xread({self._stream: self._last_id}, count=ENTRIES_PER_READ, block=BLOCK_MS)
        for batches in cast(StreamEntries, found).values():
            for entry_id, fields in chain.from_iterable(batches):
                self._last_id = entry_id
                await self._settle(fields)

    async def _settle(self, fields: Mapping[bytes, bytes]) -> None:
        packed, replica = fields.get(REPLIES), fields.get(REPLICA, b"").decode()
        if packed is None:
            return  # the entry that made the stream
        self._untrimmed_bytes += len(packed)
        try:
            replies = unpack_replies(packed)
        except EnvelopeInvalid:
            log.exception("entry of the reply stream is no pack of replies")
            return
        for count, reply in enumerate(replies, 1):
            self._replies.settle(reply, replica)
            if not count % SETTLED_AT_ONCE:
                await asyncio.sleep(0)


def _after(entry_id: bytes) -> str:
    """The next id Redis can give out. A trim keeps the entry it names: for as long as nothing comes, that may be a reply of 16 MiB."""
    milliseconds, sequence = entry_id.decode().split("-")
    return f"{milliseconds}-{int(sequence) + 1}"
