"""What is counted of served entities: here without waiting, and once a second added in Redis to what every process counted."""

import asyncio
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.shared.clock import now_ms
from services.shared.topics import recent_key, tally_key

LATENCY, QUEUE, PREDICTION, WAKE = "latency", "queue", "prediction", "wake"  # histograms of ms
STATUS = "status"
BOUNDS_MS = (5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000)
BUCKETS = tuple(str(n) for n in range(len(BOUNDS_MS) + 1))  # the last one has no bound
SUM_US = "sum_us"  # a histogram's sum, beside its buckets
ADD_EVERY_S = 1.0
RECENT_MS = 5_000  # the last minute is kept in records of so long
RECENT_RECORDS = 12
KEPT_S = 14 * 24 * 3600  # an endpoint that nobody calls for so long begins anew, as counters may

log = logging.getLogger(__name__)

Field = tuple[str, str, str]  # entity, what is counted, the bucket or status class of it
Counts = Mapping[Field, int]


@dataclass(frozen=True, slots=True)
class Tally:
    """What all processes together counted of one endpoint: ever, and in the last 55 to 60 seconds (statuses only)."""

    ever: Counts
    last_minute: Counts


class Tallies:
    """Counts of this process that are not added yet. What cannot be added waits, and is lost only with the process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._fresh: dict[str, dict[Field, int]] = defaultdict(lambda: defaultdict(int))  # by endpoint id

    def observe(self, endpoint_id: str, entity: str, what: str, ms: float) -> None:
        counts = self._fresh[endpoint_id]
        counts[entity, what, BUCKETS[bisect_left(BOUNDS_MS, ms)]] += 1
        counts[entity, what, SUM_US] += int(ms * 1000)

    def answered(self, endpoint_id: str, entity: str, status: int) -> None:
        """`entity` "" where the request was refused before one was chosen."""
        self._fresh[endpoint_id][entity, STATUS, f"{status // 100}xx"] += 1

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(ADD_EVERY_S)
            try:
                await self.add()
            except (RedisError, OSError) as error:
                log.warning("counts cannot be added", extra={"error": repr(error)})

    async def add(self) -> None:
        """Add what was counted here. A repeat after an error may count twice what Redis had taken already."""
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, defaultdict(lambda: defaultdict(int))
        record = now_ms() // RECENT_MS
        try:
            async with self._redis.pipeline(transaction=False) as commands:
                for endpoint_id, counts in fresh.items():
                    ever, recent = tally_key(endpoint_id), recent_key(endpoint_id, record)
                    for field, count in counts.items():
                        commands.hincrby(ever, "|".join(field), count)
                        if field[1] == STATUS:
                            commands.hincrby(recent, "|".join(field), count)
                    commands.expire(ever, KEPT_S)
                    commands.expire(recent, 2 * RECENT_RECORDS * RECENT_MS // 1000)
                await commands.execute()
        except BaseException:
            for endpoint_id, counts in fresh.items():
                for field, count in counts.items():
                    self._fresh[endpoint_id][field] += count
            raise


async def read_tallies(redis: Redis, endpoint_ids: Iterable[str]) -> Mapping[str, Tally]:
    """By endpoint id. Raises RedisError."""
    now = now_ms() // RECENT_MS
    ids = list(endpoint_ids)
    async with redis.pipeline(transaction=False) as commands:
        for endpoint_id in ids:
            commands.hgetall(tally_key(endpoint_id))
            for record in range(now - RECENT_RECORDS + 1, now + 1):
                commands.hgetall(recent_key(endpoint_id, record))
        found = await commands.execute()
    size = RECENT_RECORDS + 1
    each = {endpoint_id: found[n * size : (n + 1) * size] for n, endpoint_id in enumerate(ids)}
    return {endpoint_id: Tally(_summed(records[:1]), _summed(records[1:])) for endpoint_id, records in each.items()}


def _summed(records: Iterable[Mapping[bytes, bytes]]) -> Counts:
    total: dict[Field, int] = defaultdict(int)
    for record in records:
        for name, count in record.items():
            entity, what, part = name.decode().split("|")
            total[entity, what, part] += int(count)
    return total
