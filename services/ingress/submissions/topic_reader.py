"""Reads one endpoint's public topic: each record goes to a pool's bulk topic, or is refused on the results topic."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.ingress.destinations import Destination, Destinations, NotServing
from services.ingress.rate_limiter import RateLimiter
from services.ingress.submissions.bulk_producer import BulkProducer
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.record_ids import draw_of
from services.ingress.submissions.submitted import refusal, require_fit, to_request
from services.shared.clock import now_ms
from services.shared.endpoints import ControlState, Endpoint, PublicTopics, Token
from services.shared.envelope import ScoringRequest
from services.shared.errors import EndpointNotFound, PoolNotReady, RateLimited, RequestRejected
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_consumer
from services.shared.results import result_record
from services.shared.settings import KafkaSettings
from services.shared.topics import HOUR_MS, SUBMITTED_GROUP, create_topics, public_topics, requests_topic, results_topic

MOST_RECORDS = 500  # taken at once: what a death makes come again
POLL_MS = 1_000
RETRY_PAUSE_S = 1.0

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
        self._limiter = limiter
        self._destinations = Destinations()

    @property
    def _name(self) -> str:
        return self._endpoint.name

    async def run(self) -> None:
        """Runs until cancelled: by who sees that the topics were switched off, or the endpoint deleted."""
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                log.warning("a public topic cannot be read, trying again", extra={"endpoint": self._name, "error": repr(error)})
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _read(self) -> None:
        """Until the topic has other partitions than it had at the beginning."""
        await create_topics(self._admin, public_topics(self._name, self._kafka))
        partitions, results = await self._partitions()
        consumer = new_consumer(self._kafka, group_id=SUBMITTED_GROUP)
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
        room = self._room()
        if not room:
            await self._pools.next_look()
            return
        taken: Mapping[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
            timeout_ms=POLL_MS, max_records=min(room, MOST_RECORDS)
        )
        under_way = [await self._hand_over(record, results) for records in taken.values() for record in records]
        await asyncio.gather(*map(asyncio.shield, under_way))
        if under_way:
            await consumer.commit({partition: records[-1].offset + 1 for partition, records in taken.items()})

    def _room(self) -> int:
        """What each of the served entities can be given; none while nothing serves."""
        endpoint = self._events.snapshot().endpoint_by_id(self._endpoint.endpoint_id)
        config = endpoint.serving if endpoint else None
        if config is None:
            return 0
        asked = {route.entity for route in config.spec.routes if route.traffic_percentage}
        return min(self._pools.room(config.entities[name].pool_id) for name in asked)

    async def _hand_over(self, record: ConsumerRecord, results: int) -> "asyncio.Future[None]":
        request = to_request(record, self._endpoint, self._caller.principal, record.partition % results, self._longest_ms)
        try:
            require_fit(record, self._max_body_bytes)
            return await self._route(request)
        except RequestRejected as error:
            return self._producer.put(result_record(request, refusal(request, error), 0, now_ms()))

    async def _route(self, request: ScoringRequest) -> "asyncio.Future[None]":
        """To the served entity its id draws; waits while nothing serves, and while a limit is spent. Raises PayloadTooLarge."""
        while True:
            state = self._events.snapshot()
            try:
                to = self._choose(state, request)
                self._limiter.spend_own(to, self._caller)
                addressed = replace(request, entity=to.entity, served_entity_id=to.served_entity_id, table=to.table)
                return self._producer.hand_over(to.pool_id, addressed)
            except RateLimited as limit:
                await asyncio.sleep(limit.retry_after_s)
            except (EndpointNotFound, PoolNotReady, NotServing):
                await self._events.changed(state.next_offset)

    def _choose(self, state: ControlState, request: ScoringRequest) -> Destination:
        """Raises EndpointNotFound, also where another endpoint has the name now, PoolNotReady or NotServing."""
        to = self._destinations.choose(state, self._name, None, draw_of(request.request_id))
        if to.endpoint_id != self._endpoint.endpoint_id:
            raise EndpointNotFound(self._name)
        return to
