"""Makes and removes the topics and the consumer groups of a pool."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, NonEmptyGroup, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.topics import Queue, create_topics, pool_topic, queues_of


class PoolTopics:
    def __init__(self, settings: KafkaSettings, admin: AIOKafkaAdminClient) -> None:
        self._settings = settings
        self._admin = admin

    async def make(self, pool_id: str, partitions: int) -> None:
        """Create the topics and commit their start offsets, so that each group's lag is known before its first member (R11).

        A repeat changes nothing: a group whose offsets are all known is left alone.
        """
        queues = queues_of(pool_id)
        await create_topics(self._admin, [pool_topic(queue, partitions, self._settings) for queue in queues])
        for queue in queues:
            if len(await self._committed(queue)) < partitions:
                await self._recommit(queue, partitions)

    async def recommit(self, pool_id: str, partitions: int) -> None:
        """Commit the groups' offsets as they are, because brokers forget those of a sleeping group after 7 days (R11).

        Only for groups without members: Kafka refuses it otherwise.
        """
        for queue in queues_of(pool_id):
            await self._recommit(queue, partitions)

    async def remove(self, pool_id: str) -> None:
        """Delete topics and groups; what is gone already is no error.

        A group that a killed replica is still counted in goes by itself: its offsets went with the topic, and Kafka drops a
        group without offsets once its last member has timed out.
        """
        queues = queues_of(pool_id)
        response = await self._admin.delete_topics([queue.topic for queue in queues])
        for topic, code in response.topic_error_codes:
            if code and for_code(code) is not UnknownTopicOrPartitionError:
                raise for_code(code)(topic)
        for queue in queues:
            await self._remove_group(queue.group)

    async def _recommit(self, queue: Queue, partitions: int) -> None:
        known = await self._committed(queue)
        offsets = {tp: known.get(tp, 0) for tp in (TopicPartition(queue.topic, p) for p in range(partitions))}
        consumer = new_consumer(self._settings, group_id=queue.group)
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()

    async def _committed(self, queue: Queue) -> dict[TopicPartition, int]:
        found = await self._admin.list_consumer_group_offsets(queue.group)
        return {tp: meta.offset for tp, meta in found.items() if meta.offset >= 0}

    async def _remove_group(self, group: str) -> None:
        coordinator = await self._admin.find_coordinator(group)
        # aiokafka has the request and no public call for it
        response = await self._admin._send_request(DeleteGroupsRequest([group]), coordinator)
        for _, code in response.results:
            if code and for_code(code) not in (GroupIdNotFound, NonEmptyGroup):
                raise for_code(code)(group)
