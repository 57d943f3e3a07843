"""Appends requests to the topics of their pools."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from services.ingress.replies import Replies, Waiting
from services.shared.envelope import request_headers
from services.shared.errors import PayloadTooLarge, TryAgainLater
from services.shared.kafka_clients import started_producer
from services.shared.settings import KafkaSettings
from services.shared.topics import online_topic

METADATA_PATIENCE_S = 5.0
REPLACE_PAUSE_S = 1.0

# The broker looked at the record and did not append it. Nothing else is known for certain: a
# batch that aiokafka gives up because its partition has no leader may have been appended by a try whose answer was lost.
_REFUSALS = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

log = logging.getLogger(__name__)


class RequestLog:
    """The producer side of the ingress.

    A record Kafka refused for certain fails its waiting future with TryAgainLater (503: it was not accepted). A record whose
    acknowledgement is unknown leaves the future waiting, since the answer may still come (R1). A producer that reported
    anything but a time-out is replaced, because aiokafka cannot recover its sequence (traps C1).
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._partitions: dict[str, list[int]] = {}
        self._unknown: list[Waiting] = []  # not acknowledged: produced again once there is a new producer

    async def start(self) -> None:
        self._producer = await started_producer(self._settings)

    async def stop(self) -> None:
        if self._replacing:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)
        if self._producer:
            await self._producer.stop()

    def is_open(self) -> bool:
        """False: there is no producer, or it is being replaced."""
        return self._producer is not None and self._replacing is None

    async def partitions(self, pool_id: str) -> list[int]:
        """Partitions of the pool's topic; fixed while the pool lives, so asked for once of each producer. Raises TryAgainLater."""
        known = self._partitions.get(pool_id)
        if known is None:
            try:
                async with asyncio.timeout(METADATA_PATIENCE_S):
                    known = sorted(await self._live_producer().partitions_for(online_topic(pool_id)))
            except (KafkaError, TimeoutError) as error:
                raise TryAgainLater("The request log cannot be reached.") from error
            self._partitions[pool_id] = known
        return known

    def forget_pools(self, live: set[str]) -> None:
        for pool_id in self._partitions.keys() - live:
            del self._partitions[pool_id]

    async def send(self, waiting: Waiting) -> None:
        """Hand the record to the producer; the acknowledgement is followed in the background.

        Raises PayloadTooLarge or TryAgainLater when the record was not sent.
        """
        waiting.open_produces += 1
        try:
            sent, producer = await self._hand_over(waiting)
        except BaseException:
            waiting.produce_ended()
            raise
        sent.add_done_callback(lambda done: self._acknowledged(done, waiting, producer))

    async def send_again(self, replies: Replies) -> None:
        """Re-produce what waits: same ids, same partitions, attempt + 1 (R1, R8)."""
        await self._repeat(replies.unanswered())

    async def _hand_over(self, waiting: Waiting) -> "tuple[asyncio.Future[object], AIOKafkaProducer]":
        """Waits only behind MAX_BATCH_BYTES that are not sent yet, at most as long as aiokafka does: a timer of ours costs each request."""
        producer, topic = self._live_producer(), online_topic(waiting.pool_id)
        headers = request_headers(waiting.request)
        try:
            sent = await producer.send(topic, waiting.request.body, partition=waiting.partition, headers=headers)
        except MessageSizeTooLargeError as error:
            raise PayloadTooLarge("The request body is too large for the request log.") from error
        except KafkaTimeoutError as error:
            raise TryAgainLater("The request log cannot be reached.") from error
        except KafkaError as error:
            self._replace_soon(producer)  # one whose sender died refuses every record from now on
            raise TryAgainLater("The request log cannot be reached.") from error
        return sent, producer

    async def _repeat(self, unanswered: Sequence[Waiting]) -> None:
        for waiting in unanswered:
            with suppress(PayloadTooLarge, TryAgainLater):  # its first copy may still be answered: it goes on waiting
                await self.partitions(waiting.pool_id)
                if waiting.reply.done():
                    continue  # answered, or its caller hung up, while others were produced
                waiting.request = replace(waiting.request, attempt=waiting.request.attempt + 1)
                await self.send(waiting)
        if unanswered:
            log.warning("requests were produced again", extra={"count": len(unanswered)})

    def _acknowledged(self, sent: "asyncio.Future[object]", waiting: Waiting, producer: AIOKafkaProducer) -> None:
        waiting.produce_ended()
        error = None if sent.cancelled() else sent.exception()
        if error is None:
            if not sent.cancelled():
                waiting.acknowledge()
            return
        log.warning("record was not acknowledged", extra={"error": repr(error), "request_id": waiting.request.request_id})
        if isinstance(error, _REFUSALS) and waiting.request.attempt == 1 and not waiting.reply.done():
            waiting.reply.set_exception(TryAgainLater("The request log refused the request."))
        else:
            self._unknown.append(waiting)
        self._replace_soon(producer)

    def _replace_soon(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer and self._replacing is None:
            self._replacing = asyncio.create_task(self._replace_producer(producer), name="replace-producer")

    async def _replace_producer(self, failed: AIOKafkaProducer) -> None:
        """Try until it works, then produce again what has no acknowledgement: its caller would only get a 504 (R1)."""
        self._producer = await self._started_producer()
        self._partitions.clear()  # the new one knows no topic yet, and would let the next request wait
        self._replacing = None
        log.warning("producer was replaced")
        unknown, self._unknown = self._unknown, []
        await self._repeat([waiting for waiting in unknown if not waiting.reply.done()])
        with suppress(KafkaError):
            await failed.stop()

    async def _started_producer(self) -> AIOKafkaProducer:
        while True:
            try:
                return await started_producer(self._settings)
            except KafkaError as error:
                log.warning("producer cannot be replaced yet", extra={"error": repr(error)})
                await asyncio.sleep(REPLACE_PAUSE_S)

    def _live_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise TryAgainLater("The request log cannot be reached.")
        return self._producer
