"""Makes and removes the topic and the consumer group of a pool."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, NonEmptyGroup, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.topics import create_topics, online_topic, pool_group, pool_topic


class PoolTopics:
    def __init__(self, settings: KafkaSettings, admin: AIOKafkaAdminClient) -> None:
        self._settings = settings
        self._admin = admin

    async def make(self, pool_id: str, partitions: int) -> None:
        """Create the topic and commit its start offsets, so that the group's lag is known before its first member (R11).

        A repeat changes nothing: a group whose offsets are all known is left alone.
        """
        await create_topics(self._admin, [pool_topic(pool_id, partitions, self._settings)])
        if len(await self._committed(pool_id)) < partitions:
            await self.recommit(pool_id, partitions)

    async def recommit(self, pool_id: str, partitions: int) -> None:
        """Commit the group's offsets as they are, because brokers forget those of a sleeping group after 7 days (R11).

        Only for groups without members: Kafka refuses it otherwise.
        """
        known = await self._committed(pool_id)
        offsets = {tp: known.get(tp, 0) for tp in (TopicPartition(online_topic(pool_id), p) for p in range(partitions))}
        consumer = new_consumer(self._settings, group_id=pool_group(pool_id))
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()

    async def _committed(self, pool_id: str) -> dict[TopicPartition, int]:
        found = await self._admin.list_consumer_group_offsets(pool_group(pool_id))
        return {tp: meta.offset for tp, meta in found.items() if meta.offset >= 0}

    async def remove(self, pool_id: str) -> None:
        """Delete topic and group; what is gone already is no error.

        A group that a killed replica is still counted in goes by itself: its offsets went with the topic, and Kafka drops a
        group without offsets once its last member has timed out.
        """
        response = await self._admin.delete_topics([online_topic(pool_id)])
        for _, code in response.topic_error_codes:
            if code and for_code(code) is not UnknownTopicOrPartitionError:
                raise for_code(code)(online_topic(pool_id))
        group = pool_group(pool_id)
        coordinator = await self._admin.find_coordinator(group)
        # aiokafka has the request and no public call for it
        response = await self._admin._send_request(DeleteGroupsRequest([group]), coordinator)
        for _, code in response.results:
            if code and for_code(code) not in (GroupIdNotFound, NonEmptyGroup):
                raise for_code(code)(group)
