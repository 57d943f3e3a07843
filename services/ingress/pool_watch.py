"""What this ingress tells the scaler, and what it knows from it: reports through Redis once a second."""

import asyncio
import logging
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.replies import Replies
from services.ingress.request_log import RequestLog
from services.shared.clock import now_ms
from services.shared.endpoints import Endpoint
from services.shared.event_log import EventLog
from services.shared.presence import (
    REPORT_EVERY_S,
    IngressReport,
    PoolEvent,
    PoolReport,
    forget_ingress,
    in_flight_elsewhere,
    read_ingresses,
    read_pool_events,
    read_pools,
    read_table_faults,
    report_ingress,
)
from services.shared.topics import NUDGE_CHANNEL

log = logging.getLogger(__name__)


class PoolWatch:
    """The last report of every pool, at most a few seconds old; None where there is none: not knowing is not zero."""

    def __init__(self, redis: Redis, ingress_id: str, events: EventLog, replies: Replies, requests: RequestLog) -> None:
        self._redis = redis
        self._ingress_id = ingress_id
        self._events = events
        self._replies = replies
        self._requests = requests
        self._reports: dict[str, PoolReport] = {}
        self._elsewhere: Mapping[str, int] = {}
        self._table_faults: Mapping[str, str] = {}
        self._nudges: set[str] = set()
        self._nudged = asyncio.Event()

    def report(self, pool_id: str) -> PoolReport | None:
        return self._reports.get(pool_id)

    def reports(self) -> dict[str, PoolReport]:
        return self._reports

    def table_faults(self) -> Mapping[str, str]:
        """catalog.schema.table → why its rows cannot be written."""
        return self._table_faults

    def in_flight(self, pool_id: str) -> int:
        """Requests that wait for the pool: here as of now, in the other processes as of their last reports.

        In the first second of a burst each process knows of itself alone, so that together they may admit as many queues as they are.
        """
        return self._replies.in_flight(pool_id) + self._elsewhere.get(pool_id, 0)

    def is_asleep(self, pool_id: str) -> bool:
        report = self._reports.get(pool_id)
        return report is not None and report.ready == 0

    async def told(self, endpoint: Endpoint) -> list[PoolEvent]:
        """What the scaler did with the endpoint's pools; empty while Redis is away."""
        configs = [config for config in (endpoint.active, endpoint.pending) if config]
        try:
            return await read_pool_events(self._redis, {entity.pool_id for config in configs for entity in config.entities.values()})
        except (RedisError, OSError):
            log.warning("events of pools cannot be read", exc_info=True)
            return []

    def nudge(self, pool_id: str) -> None:
        """Tell the scaler, best effort and without waiting, that a request meets a pool at zero."""
        self._nudges.add(pool_id)
        self._nudged.set()

    async def run_reports(self) -> None:
        while True:
            try:
                await self._exchange()
            except (RedisError, OSError) as error:
                log.warning("reports cannot be exchanged", extra={"error": repr(error)})
            await asyncio.sleep(REPORT_EVERY_S)

    async def run_nudges(self) -> None:
        while True:
            await self._nudged.wait()
            self._nudged.clear()
            nudges, self._nudges = self._nudges, set()
            try:
                for pool_id in nudges:
                    await self._redis.publish(NUDGE_CHANNEL, pool_id)
            except (RedisError, OSError):
                log.warning("nudge was not sent; the scaler will see the lag", exc_info=True)
            await asyncio.sleep(0.05)  # a burst is one nudge

    async def leave(self) -> None:
        await forget_ingress(self._redis, self._ingress_id)

    async def _exchange(self) -> None:
        state = self._events.snapshot()
        routed_from = self._replies.routed_from(state.next_offset)
        in_flight = self._replies.in_flight_by_pool()
        report = IngressReport(ingress_id=self._ingress_id, routed_from=routed_from, in_flight=in_flight, at_ms=now_ms())
        await report_ingress(self._redis, report)
        self._elsewhere = in_flight_elsewhere(await read_ingresses(self._redis, now_ms()), self._ingress_id)
        self._reports = {r.pool_id: r for r in await read_pools(self._redis, list(state.pools))}
        self._table_faults = await read_table_faults(self._redis)
        self._requests.forget_pools(set(state.pools))
        self._replies.forget_pools(set(state.pools))
