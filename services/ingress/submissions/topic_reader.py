"""Reads one endpoint's public topic: each record goes to a pool's bulk topic, or is refused on the results topic."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.ingress.destinations import NotServing
from services.ingress.rate_limiter import RateLimiter
from services.ingress.submissions.bulk_producer import BulkProducer
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.record_source import Taken, take
from services.ingress.submissions.routing import Routing
from services.ingress.submissions.submitted import refusal, require_fit, to_request
from services.shared.clock import now_ms
from services.shared.endpoints import Endpoint, PublicTopics, Token
from services.shared.errors import EndpointNotFound, PoolNotReady, RateLimited, RequestRejected
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_consumer
from services.shared.results import result_record
from services.shared.settings import KafkaSettings
from services.shared.topics import HOUR_MS, MAX_RECORD_BYTES, SUBMITTED_GROUP, create_topics, public_topics, requests_topic, results_topic

MOST_RECORDS = 500  # taken at once: what a death makes come again
RETRY_PAUSE_S = 1.0

HandedOver = tuple[Taken, "asyncio.Future[None]"]

log = logging.getLogger(__name__)


class TopicReader:
    """Offsets are committed once Kafka has what the records became; what a death leaves uncommitted comes again with the same ids."""

    def __init__(
        self,
        endpoint: Endpoint,
        topics: PublicTopics,
        kafka: KafkaSettings,
        max_body_bytes: int,
        admin: AIOKafkaAdminClient,
        events: EventLog,
        producer: BulkProducer,
        pools: Pools,
        limiter: RateLimiter,
    ) -> None:
        self._endpoint = endpoint
        self._caller = Token("", topics.requester, topics.kind)
        self._kafka = kafka
        self._max_body_bytes = max_body_bytes
        self._longest_ms = int(kafka.pool_retention_h * HOUR_MS)
        self._admin = admin
        self._events = events
        self._producer = producer
        self._pools = pools
        self._routing = Routing(limiter, self._caller)

    @property
    def _name(self) -> str:
        return self._endpoint.name

    async def run(self) -> None:
        """Runs until cancelled: by who sees that the topics were switched off, or the endpoint deleted.

        Whatever is wrong with one endpoint's topic holds up no other work of this process.
        """
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                log.warning("a public topic cannot be read, trying again", extra={"endpoint": self._name, "error": repr(error)})
            except Exception:
                log.exception("a public topic cannot be read for a fault of ours, trying again", extra={"endpoint": self._name})
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _read(self) -> None:
        """Until the topic has other partitions than it had at the beginning."""
        await create_topics(self._admin, public_topics(self._name, self._kafka))
        partitions, results = await self._partitions()
        # The usual 50 MiB that are fetched ahead, for each endpoint, add up.
        consumer = new_consumer(self._kafka, group_id=SUBMITTED_GROUP, fetch_max_bytes=MAX_RECORD_BYTES)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(requests_topic(self._name), partition) for partition in range(partitions)])
            while len(consumer.partitions_for_topic(requests_topic(self._name)) or ()) in (0, partitions):
                await self._step(consumer, results)
        finally:
            await consumer.stop()

    async def _partitions(self) -> tuple[int, int]:
        """Of the requests, of the results. Raises KafkaError."""
        found = await self._admin.describe_topics([requests_topic(self._name), results_topic(self._name)])
        counts = {topic["topic"]: len(topic["partitions"]) for topic in found}
        if not all(counts.values()):
            raise KafkaError("not every broker has heard of the topics yet")
        return counts[requests_topic(self._name)], counts[results_topic(self._name)]

    async def _step(self, consumer: AIOKafkaConsumer, results: int) -> None:
        """Take what there is room for, hand it over as far as that goes, and commit once Kafka has it."""
        room = self._pools.room_of(self._events.snapshot().endpoint_by_id(self._endpoint.endpoint_id))
        if not room:
            await self._pools.next_look()
            return
        taken = await take(consumer, min(room, MOST_RECORDS))
        seen = self._events.snapshot().next_offset  # a limit that is lifted while Kafka is waited for below is news, too
        handed_over, pause_s = self._hand_over(taken, results)
        await asyncio.gather(*(asyncio.shield(acknowledged) for _, acknowledged in handed_over))
        if next_offsets := {TopicPartition(record.topic, record.partition): record.offset + 1 for record, _ in handed_over}:
            await consumer.commit(next_offsets)
        if pause_s is not None:
            for partition, records in taken.items():
                consumer.seek(partition, next_offsets.get(partition, records[0].offset))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._events.changed(seen)  # the limit may be lifted

    def _hand_over(self, taken: Mapping[TopicPartition, list[Taken]], results: int) -> tuple[list[HandedOver], float | None]:
        """In order; and, where one must wait, for how long it and all behind it do."""
        handed_over: list[HandedOver] = []
        try:
            for record in chain.from_iterable(taken.values()):
                handed_over.append((record, self._hand_over_one(record, results)))
        except RateLimited as limit:
            return handed_over, limit.retry_after_s
        except (EndpointNotFound, PoolNotReady, NotServing):
            return handed_over, 0.0  # nothing serves, so there is no room
        return handed_over, None

    def _hand_over_one(self, record: Taken, results: int) -> "asyncio.Future[None]":
        request = to_request(record, self._endpoint, self._caller.principal, record.partition % results, self._longest_ms)
        try:
            require_fit(record, self._max_body_bytes)
        except RequestRejected as error:
            return self._producer.put(result_record(request, refusal(request, error), 0, now_ms()))
        return self._producer.hand_over(*self._routing.address(request, self._events.snapshot()))
