"""Faust's Kafka transport with fetches that wait for more: Faust has no setting for it.

One outcome record at a time costs broker and logger 2 ms of CPU each, beside a request of 4.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

FETCH_BYTES = 1024 * 1024
FETCH_WAIT_MS = 250  # rows are seen that much later


class _PatientThread(AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust's drivers have no types
    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_min_bytes = FETCH_BYTES  # read when it starts
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class _PatientConsumer(Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _PatientThread(self, loop=self.loop, beacon=self.beacon)


class PatientTransport(Transport):  # type: ignore[misc]
    Consumer = _PatientConsumer
