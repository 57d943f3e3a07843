"""Holds calls to limits shared by all ingress processes: decided by what is known here, told in the background (R14)."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.destinations import Destination
from services.ingress.limits import Limit, Meter, changes_limit, limits_on, workspace_limit
from services.shared.endpoints import Token
from services.shared.errors import RateLimited
from services.shared.topics import spent_key

TELL_EVERY_S = 0.05
REPEAT_PAUSE_S = 1.0
REMEMBERED = 10_000  # callers of endpoints with limits of their own

log = logging.getLogger(__name__)


class RateLimiter:
    """Refuses what is over a limit as far as is known here, and never what is under it.

    What this process spends it tells every 50 ms, and at once when it is a sixteenth of the limit; with the answer it learns
    what the others spent. So a window is overshot by at most what the other processes take meanwhile: a sixteenth each, and
    what comes during a round trip to Redis. While Redis is away each process holds its callers to the limits by itself.
    """

    def __init__(self, redis: Redis, queries_per_s: int, changes_per_5_min: int, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._clock = clock
        self._workspace = Meter(workspace_limit(queries_per_s))
        self._workspace_alone = (self._workspace,)
        self._changes = (Meter(changes_limit(changes_per_5_min)),)
        self._meters: dict[Limit, Meter] = {}
        self._known: dict[tuple[str, str, str], tuple[Destination, Sequence[Meter]]] = {}  # by pool and caller
        self._untold: set[Meter] = set()
        self._some = asyncio.Event()
        self._slice = asyncio.Event()

    def spend(self, to: Destination, caller: Token) -> None:
        """Count one invocation against every limit it is under. Raises RateLimited, and then counts it against none."""
        self._spend(self._meters_of(to, caller) if to.rate_limits else self._workspace_alone)

    def spend_query(self) -> None:
        """Count one call against the workspace's limit of queries alone. Raises RateLimited."""
        self._spend(self._workspace_alone)

    def spend_own(self, to: Destination, caller: Token) -> None:
        """Count one bulk request against the endpoint's limits alone: the workspace's is of those whom bulk work stands behind.

        Raises RateLimited, and then counts it against none.
        """
        if to.rate_limits:
            self._spend(self._meters_of(to, caller)[1:])

    def spend_change(self) -> None:
        """Count one management call that changes something. Raises RateLimited."""
        self._spend(self._changes)

    def _spend(self, meters: Sequence[Meter]) -> None:
        now_s = self._clock()
        for meter in meters:
            if meter.is_spent(now_s):
                raise RateLimited(meter.limit.refusal, meter.retry_after_s(now_s))
        for meter in meters:
            meter.fresh += 1
            if meter.fresh == 1:
                self._untold.add(meter)
                self._some.set()
            if meter.fresh == meter.slice:
                self._slice.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_EVERY_S):
                    await self._slice.wait()
            self._slice.clear()
            try:
                await self.exchange()
            except (RedisError, OSError) as error:
                log.warning("what was spent of the limits cannot be told", extra={"error": repr(error)})
                self._some.set()
                await asyncio.sleep(REPEAT_PAUSE_S)

    async def exchange(self) -> None:
        """Tell what was spent here, and learn what all have spent."""
        told = [(meter, meter.window, meter.fresh) for meter in self._untold if meter.fresh]
        async with self._redis.pipeline(transaction=False) as commands:
            for meter, window, fresh in told:
                key = spent_key(meter.limit.key, window)
                commands.incrby(key, fresh)
                commands.expire(key, 2 * meter.limit.window_s)
            totals = (await commands.execute())[::2]
        for (meter, window, fresh), total in zip(told, totals, strict=True):
            meter.told(window, fresh, total)
        self._untold = {meter for meter in self._untold if meter.fresh}
        if self._untold:
            self._some.set()
        if any(meter.fresh >= meter.slice for meter in self._untold):
            self._slice.set()

    def _meters_of(self, to: Destination, caller: Token) -> Sequence[Meter]:
        known = self._known.get((to.pool_id, caller.kind, caller.principal))
        if known is not None and known[0] is to:
            return known[1]
        if len(self._known) >= REMEMBERED:
            self._known.clear()
            self._meters = {limit: meter for limit, meter in self._meters.items() if not meter.is_past(self._clock())}
        meters = [self._workspace] + [self._meters.setdefault(limit, Meter(limit)) for limit in limits_on(to, caller)]
        self._known[to.pool_id, caller.kind, caller.principal] = (to, meters)
        return meters
