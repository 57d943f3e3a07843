"""Takes records off a public topic, into which anybody writes: one that cannot be decoded holds up none behind it."""

import logging
from collections.abc import Mapping
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from services.ingress.submissions.submitted import Undecodable
from services.shared.clock import now_ms

POLL_MS = 1_000

Taken: TypeAlias = ConsumerRecord | Undecodable

log = logging.getLogger(__name__)


async def take(consumer: AIOKafkaConsumer, most: int) -> Mapping[TopicPartition, list[Taken]]:
    """At most so many, by partition. Raises KafkaError; the consumer has lost some then, and must be replaced.

    Where one record cannot be decoded aiokafka raises, has moved on in some partitions and gives nothing of what it took. So all is
    taken again, one by one. It decodes a batch from its beginning: what lies behind such a record in the same batch cannot be read, either.
    """
    positions = {partition: await consumer.position(partition) for partition in consumer.assignment()}
    try:
        taken: Mapping[TopicPartition, list[Taken]] = await consumer.getmany(timeout_ms=POLL_MS, max_records=most)
    except Exception as error:
        if not _is_of_decoding(error):
            raise
    else:
        return taken
    singly: dict[TopicPartition, list[Taken]] = {}
    for partition, offset in positions.items():
        consumer.seek(partition, offset)
    for partition in positions:
        while sum(map(len, singly.values())) < most and (found := await _take_one(consumer, partition)):
            singly.setdefault(partition, []).append(found)
    return singly


async def _take_one(consumer: AIOKafkaConsumer, partition: TopicPartition) -> Taken | None:
    """None where nothing more came. Raises KafkaError."""
    try:
        taken = await consumer.getmany(partition, timeout_ms=POLL_MS, max_records=1)
    except Exception as error:
        if not _is_of_decoding(error):
            raise
        place = (partition.topic, partition.partition, await consumer.position(partition))
        facts = dict(zip(("topic", "partition", "offset"), place, strict=True))
        log.warning("record cannot be decoded, and is refused", extra=facts | {"error": repr(error)})
        consumer.seek(partition, place[-1] + 1)
        return Undecodable(*place, now_ms(), f"The record, or one before it in its batch, cannot be decoded: {error}.")
    return taken[partition][0] if taken else None


def _is_of_decoding(error: Exception) -> bool:
    """Whether it is not Kafka's: there is no telling what decoders of records and of compressed batches raise."""
    return not isinstance(error, KafkaError) or isinstance(error, CorruptRecordException)
