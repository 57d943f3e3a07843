"""One process of a kind leads: the member of their consumer group that owns the control log's only partition (design §5)."""

import asyncio
import logging
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.topics import CONTROL

SESSION_MS = 6_000  # leadership moves within 10 s of the leader's death

log = logging.getLogger(__name__)


class Leadership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Nothing is read through this consumer; it only holds the membership."""

    def __init__(self, settings: KafkaSettings, group: str, instance: str = "") -> None:
        """Who starts again under its `instance` leads at once if it led; without one Kafka waits for the end of its old session."""
        self._group = group
        self._consumer: AIOKafkaConsumer = new_consumer(
            settings,
            group_id=group,
            group_instance_id=instance or None,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=1_000,
            max_poll_interval_ms=2**31 - 1,
        )
        self._leads = asyncio.Event()
        self._follows = asyncio.Event()

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.subscribe([CONTROL], listener=self)

    async def stop(self) -> None:
        await self._consumer.stop()

    def leads(self) -> bool:
        return self._leads.is_set()

    async def wait(self) -> None:
        await self._leads.wait()

    async def lost(self) -> None:
        """Returns once another process may lead."""
        await self._follows.wait()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._leads.clear()
        self._follows.set()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        if assigned:
            self._follows.clear()
            self._leads.set()
            log.info("this process leads now", extra={"group": self._group})
