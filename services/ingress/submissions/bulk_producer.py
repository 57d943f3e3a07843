"""Appends bulk requests to the topics of their pools, until the broker has them."""

import asyncio
from dataclasses import dataclass

from services.shared.envelope import ScoringRequest, request_headers
from services.shared.errors import PayloadTooLarge, TryAgainLater
from services.shared.event_log import EventLog
from services.shared.safe_producer import Record, SafeProducer
from services.shared.settings import MIB, KafkaSettings
from services.shared.topics import MAX_RECORD_BYTES, bulk_topic, partitions_for

MAX_BULK_BYTES = MAX_RECORD_BYTES - MIB  # what Kafka puts around a record, and a margin


class PoolRetired(TryAgainLater):
    """Nothing goes to this pool any more: the request must be routed by a newer snapshot of the control log."""


@dataclass(eq=False, slots=True)
class Sending:
    """A record that may still be appended. `routed_at` is the control offset of the snapshot that vouched for its pool (R10), if it
    goes to one.
    """

    record: Record
    routed_at: int | None
    acknowledged: asyncio.Future[None]


class BulkProducer:
    """Takes all that waits, brings it to Kafka in one round, then takes what came meanwhile: rounds grow with the load."""

    def __init__(self, settings: KafkaSettings, events: EventLog) -> None:
        self._producer = SafeProducer(settings)
        self._events = events
        self._waiting: list[Sending] = []
        self._open: set[Sending] = set()
        self._some = asyncio.Event()
        self._appended: dict[str, list[int]] = {}  # pool id → records handed over, by partition

    async def send(self, pool_id: str, request: ScoringRequest) -> None:
        """As `hand_over`; returns when Kafka has acknowledged the record, however long that takes. Who is cancelled leaves it under way."""
        await asyncio.shield(self.hand_over(pool_id, request))

    def hand_over(self, pool_id: str, request: ScoringRequest) -> asyncio.Future[None]:
        """Have the record brought to the pool's least filled partition; done when Kafka has acknowledged it.

        Raises PoolRetired, or PayloadTooLarge, when nothing was handed over.
        """
        state = self._events.snapshot()
        pool = state.pools.get(pool_id)
        if pool is None or pool.retired_at is not None:
            raise PoolRetired("The served entity was replaced.")
        headers = request_headers(request)
        size = len(request.body) + len(request.key) + sum(len(name) + len(value) for name, value in headers)
        if size > MAX_BULK_BYTES:
            raise PayloadTooLarge(f"The request is too large for the request log: {size} bytes of {MAX_BULK_BYTES}.")
        partition = self._least_filled(pool_id, partitions_for(pool.spec.max_replicas))
        record = Record(bulk_topic(pool_id), partition, request.body, headers, request.key or None)
        return self._put(record, state.next_offset)

    def put(self, record: Record) -> asyncio.Future[None]:
        """Have a record brought to any other topic, which must exist; done when Kafka has acknowledged it."""
        return self._put(record, None)

    def appended(self, pool_id: str) -> int:
        """Records handed over for the pool since this process began."""
        return sum(self._appended.get(pool_id, ()))

    def forget_pools(self, live: set[str]) -> None:
        for pool_id in self._appended.keys() - live:
            del self._appended[pool_id]

    def routed_from(self, next_offset: int) -> int:
        """The oldest snapshot by which something is still under way; `next_offset` where nothing is."""
        return min((sending.routed_at for sending in self._open if sending.routed_at is not None), default=next_offset)

    async def run(self) -> None:
        """Runs until cancelled, and then leaves what is under way."""
        while True:
            await self._some.wait()
            self._some.clear()
            sendings, self._waiting = self._waiting, []
            records = [sending.record for sending in sendings]
            await self._producer.finish(records, await self._producer.begin(records))
            for sending in sendings:
                self._open.discard(sending)
                sending.acknowledged.set_result(None)

    async def drained(self) -> None:
        """Returns when nothing is under way any more."""
        await asyncio.gather(*(asyncio.shield(sending.acknowledged) for sending in self._open))

    async def stop(self) -> None:
        await self._producer.stop()

    def _put(self, record: Record, routed_at: int | None) -> asyncio.Future[None]:
        sending = Sending(record, routed_at, asyncio.get_running_loop().create_future())
        self._open.add(sending)
        self._waiting.append(sending)
        self._some.set()
        return sending.acknowledged

    def _least_filled(self, pool_id: str, partitions: int) -> int:
        counts = self._appended.setdefault(pool_id, [0] * partitions)
        partition = counts.index(min(counts))
        counts[partition] += 1
        return partition
