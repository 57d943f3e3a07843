"""What the scaler asks Kafka with."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.scaler.lag import LagReader
from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings


@pytest.fixture
async def admin(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    async with asyncio.timeout(30):
        while not await coordinates(client):  # a new broker makes its offsets topic when it is first asked
            await asyncio.sleep(0.1)
    yield client
    await client.close()


async def coordinates(client: AIOKafkaAdminClient) -> bool:
    try:
        await client.find_coordinator("any")
    except KafkaError:
        return False
    return True


@pytest.fixture
async def lag(kafka: KafkaSettings, admin: AIOKafkaAdminClient) -> AsyncIterator[LagReader]:
    consumer = new_consumer(kafka)
    await consumer.start()
    yield LagReader(admin, consumer, window_s=10)
    await consumer.stop()
