"""What this process tells the scaler of itself, what it knows from it of the pools, and how much bulk work they may be given."""

import asyncio
import logging
from math import ceil
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.submissions.bulk_producer import BulkProducer
from services.shared.clock import now_ms
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.endpoints import Endpoint
from services.shared.event_log import EventLog
from services.shared.presence import REPORT_EVERY_S, REPORT_TTL_S, IngressReport, PoolReport, forget_ingress, read_pools, report_ingress

WINDOW_S = 10.0  # of work in a pool's bulk topic: enough that its lanes never wait for us, and soon done once nothing follows
FIRST_WINDOW = 64  # records, as long as nobody knows what one takes

log = logging.getLogger(__name__)


def room(report: PoolReport | None, appended_since: int, at_ms: int) -> int:
    """How many records a pool may be given now. Without a fresh report there is none: not knowing its lag is not an empty topic.

    `appended_since` counts what its lag may not hold yet. A pool at zero gets what one replica does in the window.
    """
    if report is None or report.bulk_lag is None or at_ms - report.at_ms > REPORT_TTL_S * 1000:
        return 0
    lanes = max(1, report.ready) * LANES_PER_REPLICA
    window = ceil(WINDOW_S * lanes / report.bulk_evaluation_s) if report.bulk_evaluation_s else FIRST_WINDOW
    return max(0, max(window, 2 * lanes) - report.bulk_lag - appended_since)


class Pools:
    """Reports are exchanged through Redis once a second."""

    def __init__(self, redis: Redis, events: EventLog, producer: BulkProducer) -> None:
        self._redis = redis
        self._events = events
        self._producer = producer
        self._name = f"submissions-{uuid4().hex}"
        self._reports: dict[str, PoolReport] = {}
        self._counted: dict[str, int] = {}  # pool id → records appended before the last look
        self._surely_seen: dict[str, int] = {}  # pool id → those of them that the report's lag was read after
        self._looked = asyncio.Condition()

    def room_of(self, endpoint: Endpoint | None) -> int:
        """For how many records each of the served entities that are asked has room; none while nothing serves."""
        config = endpoint.serving if endpoint else None
        if config is None:
            return 0
        asked = {route.entity for route in config.spec.routes if route.traffic_percentage}
        return min(self.room(config.entities[name].pool_id) for name in asked)

    def room(self, pool_id: str) -> int:
        since = self._producer.appended(pool_id) - self._surely_seen.get(pool_id, 0)
        return room(self._reports.get(pool_id), since, now_ms())

    async def next_look(self) -> None:
        """Returns when there are newer reports; where there is no room now, there may be some then."""
        async with self._looked:
            await self._looked.wait()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            try:
                await self.exchange()
            except (RedisError, OSError) as error:
                log.warning("reports cannot be exchanged", extra={"error": repr(error)})

    async def exchange(self) -> None:
        """Raises RedisError. Comes before the first record is sent: who has not reported is not waited for (R10)."""
        state = self._events.snapshot()
        routed_from = self._producer.routed_from(state.next_offset)
        await report_ingress(self._redis, IngressReport(ingress_id=self._name, routed_from=routed_from, at_ms=now_ms()))
        fresh = {report.pool_id: report for report in await read_pools(self._redis, list(state.pools))}
        async with self._looked:
            for pool_id, report in fresh.items():
                known = self._reports.get(pool_id)
                if known is None or known.at_ms != report.at_ms:  # it was made after the last look
                    self._surely_seen[pool_id] = self._counted.get(pool_id, 0)
            self._reports = fresh
            self._counted = {pool_id: self._producer.appended(pool_id) for pool_id in state.pools}
            self._producer.forget_pools(set(state.pools))
            self._looked.notify_all()

    async def leave(self) -> None:
        await forget_ingress(self._redis, self._name)
