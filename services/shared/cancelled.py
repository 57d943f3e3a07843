"""Requests whose callers hung up (R15): an ingress says so, every host of the pool hears it. Best effort: what is missed is scored.

A stream a pool, which hosts read in the background: a request that is scored costs Redis nothing for it, and a host that starts
late, or again, reads what it missed. Each id counts until its deadline; the stream goes by itself some minutes after that.
"""

import logging
from collections.abc import Mapping
from itertools import chain
from typing import Any, cast

import msgpack
from redis.asyncio import Redis

from services.shared.topics import cancelled_stream

FIELD = b"p"
LONGEST_STREAM = 10_000  # entries
KEPT_LONGER_MS = 600_000  # an earlier entry may have a later deadline; Redis 6 cannot be told to lengthen only
FROM_THE_START = b"0-0"

log = logging.getLogger(__name__)

Deadlines = Mapping[str, int]  # request id → deadline, epoch ms


async def publish_cancelled(redis: Redis, by_pool: Mapping[str, Deadlines]) -> None:
    """Tell the hosts of each pool. Raises RedisError; a repeat is harmless."""
    async with redis.pipeline(transaction=False) as pipe:
        for pool_id, deadlines in by_pool.items():
            stream = cancelled_stream(pool_id)
            pipe.xadd(stream, {FIELD: msgpack.packb(dict(deadlines))}, maxlen=LONGEST_STREAM, approximate=True)
            pipe.pexpireat(stream, max(deadlines.values()) + KEPT_LONGER_MS)
        await pipe.execute()


async def read_cancelled(redis: Redis, pool_id: str, after: bytes, block_ms: int | None) -> tuple[bytes, dict[str, int]]:
    """What was told after the entry `after`, and the entry to go on from; waits for news `block_ms` at most, None: not at all.

    Raises RedisError. An entry that `publish_cancelled` did not write is passed over.
    """
    found = cast(dict[bytes, Any], await redis.xread({cancelled_stream(pool_id): after}, block=block_ms))
    entries = [*chain.from_iterable(chain.from_iterable(found.values()))]
    deadlines: dict[str, int] = {}
    for _, fields in entries:
        deadlines |= _unpacked(fields.get(FIELD, b""))
    return (entries[-1][0] if entries else after), deadlines


def _unpacked(packed: bytes) -> dict[str, int]:
    try:
        deadlines = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        log.warning("entry among the cancelled requests is no pack", extra={"error": repr(error)})
        return {}
    if not isinstance(deadlines, dict) or not all(isinstance(i, str) and isinstance(d, int) for i, d in deadlines.items()):
        log.warning("entry among the cancelled requests holds no ids and deadlines")
        return {}
    return deadlines
