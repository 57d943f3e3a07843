"""The one way a producer or a consumer is made, so that size limits and safety settings agree everywhere."""

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.shared.settings import MIB, KafkaSettings
from services.shared.topics import MAX_RECORD_BYTES

MAX_BATCH_BYTES = MIB  # aiokafka's 16 KiB hold 20 requests, and a partition has one batch on its way at a time


def new_producer(settings: KafkaSettings, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer with acks=all. After a non-retriable error it must be replaced, not used again (traps C1)."""
    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=MAX_BATCH_BYTES,
        **options,
    )


async def started_producer(settings: KafkaSettings) -> AIOKafkaProducer:
    """A producer that is ready to send. One that cannot start is stopped before its error is raised."""
    producer = new_producer(settings)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


def new_consumer(settings: KafkaSettings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer that never commits by itself and starts at the beginning of what it has not seen."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=settings.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        metadata_max_age_ms=5_000,  # R12
        **options,
    )
