"""The submissions process as it runs, over real Kafka and Redis, without a scaler or a scorer: the test says what they would."""

import asyncio
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as BatchInPython
from confluent_kafka import Producer
from redis.asyncio import Redis

from services.ingress.submissions.record_ids import id_of_record
from services.shared.clock import now_ms
from services.shared.control_events import ControlEvent, RateLimit, RateLimitsChanged, TopicsSwitched, encode_event
from services.shared.envelope import ScoringRequest, parse_request
from services.shared.kafka_clients import new_consumer, started_producer
from services.shared.presence import PoolReport, report_pool
from services.shared.redis_clients import new_redis
from services.shared.results import ScoringResult, parse_result
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import CONTROL, SUBMITTED_GROUP, bulk_topic, create_topics, public_topics, requests_topic, results_topic
from tests.unit.shared.control_log import config, created, ready

PATIENCE_S = 40
PARTITIONS = 4


@contextmanager
def submissions(kafka: KafkaSettings, redis: RedisSettings, state: Path) -> Iterator["subprocess.Popen[bytes]"]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    environment = kept | {"PENSTOCK_STATE": str(state), "PENSTOCK_KAFKA_BOOTSTRAP": kafka.bootstrap, "PENSTOCK_REDIS_URL": redis.url}
    with (state / "submissions.log").open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "services.ingress.submissions"], env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Endpoint:
    """One with 80 % of its traffic for `a` and 20 % for `b`, whose topics are on; the test is its scaler, its scorers and its users."""

    endpoint_id: str
    name: str
    admin: AIOKafkaAdminClient
    producer: AIOKafkaProducer
    redis: Redis
    consumer: AIOKafkaConsumer
    requests: dict[str, list[ScoringRequest]]  # by id, as they came to the pools' bulk topics
    results: list[ScoringResult]
    has_room: bool = False

    def pool(self, entity: str) -> str:
        return f"{self.endpoint_id}-{entity}-1"

    async def tell(self, event: ControlEvent) -> None:
        await self.producer.send_and_wait(CONTROL, encode_event(event), partition=0)

    async def switch(self, enabled: bool) -> None:
        await self.tell(TopicsSwitched(endpoint_id=self.endpoint_id, enabled=enabled, requester="ada", at_ms=now_ms()))

    async def limit(self, *limits: RateLimit) -> None:
        await self.tell(RateLimitsChanged(endpoint_id=self.endpoint_id, rate_limits=limits, at_ms=now_ms()))

    async def submit(self, count: int, *headers: tuple[str, bytes]) -> set[str]:
        """The ids they must get."""
        topic = requests_topic(self.name)
        sent = [await self.producer.send(topic, b"{}", key=b"k%d" % i, headers=list(headers)) for i in range(count)]
        return {id_of_record(topic, at.partition, at.offset, at.timestamp) for at in await asyncio.gather(*sent)}

    async def report(self) -> None:
        """As a scaler would, of pools that score as fast as one looks."""
        while True:
            if self.has_room:
                for entity in "ab":
                    seen = PoolReport(
                        pool_id=self.pool(entity),
                        wanted=1,
                        ready=1,
                        reason="",
                        bulk_lag=0,
                        bulk_evaluation_s=1e-3,
                        max_replicas=1,
                        at_ms=now_ms(),
                    )
                    await report_pool(self.redis, seen)
            await asyncio.sleep(0.3)

    async def read_until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not seen():
                for partition, records in (await self.consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        if partition.topic == results_topic(self.name):
                            self.results.append(parse_result(record.headers, record.value, record.key))
                        else:
                            request = parse_request(record.headers, record.value, record.key)
                            self.requests[request.request_id].append(request)

    async def not_read_yet(self) -> int:
        committed = await self.admin.list_consumer_group_offsets(SUBMITTED_GROUP)
        partitions = [TopicPartition(requests_topic(self.name), p) for p in range(PARTITIONS)]
        ends = await self.consumer.end_offsets(partitions)
        return sum(end - (committed[tp].offset if tp in committed else 0) for tp, end in ends.items())


@asynccontextmanager
async def served(kafka: KafkaSettings, redis_settings: RedisSettings) -> AsyncIterator[Endpoint]:
    name, endpoint_id = f"t{uuid4().hex[:8]}", uuid4().hex
    admin, redis, consumer = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap), new_redis(redis_settings), new_consumer(kafka)
    await asyncio.gather(admin.start(), consumer.start())
    producer = await started_producer(kafka)
    endpoint = Endpoint(endpoint_id, name, admin, producer, redis, consumer, defaultdict(list), [])
    bulk = [bulk_topic(endpoint.pool(entity)) for entity in "ab"]
    await create_topics(admin, [*public_topics(name, kafka), *(NewTopic(topic, PARTITIONS, 1) for topic in bulk)])
    consumer.assign([TopicPartition(topic, p) for topic in (*bulk, results_topic(name)) for p in range(PARTITIONS)])
    for event in (created(config("1", "2", shares=(80, 20)), name, endpoint_id), ready("a", 1, endpoint_id), ready("b", 1, endpoint_id)):
        await endpoint.tell(event)
    reporting = asyncio.create_task(endpoint.report(), name="reports")
    yield endpoint
    await endpoint.switch(False)
    reporting.cancel()
    await asyncio.gather(reporting, return_exceptions=True)
    await producer.stop()
    await consumer.stop()
    await admin.close()
    await redis.aclose()


async def test_what_was_submitted_reaches_the_pools_under_one_id_each_whoever_leads(
    kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    async with served(kafka, redis_settings) as endpoint:
        await endpoint.switch(True)
        expected = await endpoint.submit(2_000)
        endpoint.has_room = True
        with submissions(kafka, redis_settings, tmp_path) as first:
            await endpoint.read_until(lambda: len(endpoint.requests) > 10)
            first.terminate()  # killed it would lead for another 6 s: `tests/e2e/test_bulk_topics.py` has the time
            await asyncio.to_thread(first.wait, PATIENCE_S)
        early = len(endpoint.requests)
        assert early < len(expected), "it left in the middle of it"
        with submissions(kafka, redis_settings, tmp_path):
            refused = await endpoint.submit(1, ("penstock-deadline-ms", b"soon"))
            expected |= await endpoint.submit(5)
            await endpoint.read_until(lambda: endpoint.requests.keys() >= expected and bool(endpoint.results))
            await endpoint.switch(False)
            later = await endpoint.submit(3)
            await endpoint.switch(True)
            await endpoint.read_until(lambda: endpoint.requests.keys() >= expected | later)
            await endpoint.limit(RateLimit(calls=5, key="endpoint"))
            later |= await endpoint.submit(60)
            await endpoint.read_until(lambda: len(endpoint.requests.keys() & later) >= 8)
            assert await endpoint.not_read_yet() >= 60 - 2 * 5, "as many as two windows of the clock let through, and no more"
            await endpoint.limit()
            await endpoint.read_until(lambda: endpoint.requests.keys() >= expected | later)
            async with asyncio.timeout(PATIENCE_S):
                while await endpoint.not_read_yet():
                    await asyncio.sleep(0.1)
    assert endpoint.requests.keys() == expected | later
    assert all(len({request.entity for request in copies}) == 1 for copies in endpoint.requests.values()), "routed as before"
    shares = Counter(copies[0].entity for copies in endpoint.requests.values())
    assert 0.15 < shares["b"] / shares.total() < 0.25
    one = endpoint.requests[min(expected)][0]
    assert (one.requester, one.results_to, one.reply_to, one.body) == ("ada", results_topic(endpoint.name), "", b"{}")
    assert one.key.startswith(b"k")
    assert {(result.request_id, result.status, result.key) for result in endpoint.results} == {(min(refused), 400, b"k0")}


class NoText(str):
    """The name of a header as clients of other languages may send it."""

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe"


async def submit_batch(endpoint: Endpoint, partition: int, *names: str) -> int:
    """A record for each name, which a header of it has, sent as one batch; the offset of the first."""
    batch = endpoint.producer.create_batch()
    batch._builder = BatchInPython(2, 0, False, -1, -1, -1, 2**20)  # the usual one, in C, takes no such names
    for name in names:
        batch.append(key=b"unread", value=b"{}", timestamp=now_ms(), headers=[(name, b"1")])
    batch.close()
    sent = await endpoint.producer.send_batch(batch, requests_topic(endpoint.name), partition=partition)
    return int((await sent).offset)


def submit_compressed(kafka: KafkaSettings, topic: str, codec: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec})
    for _ in range(5):
        producer.produce(topic, b"{}" * 500, key=codec.encode())
    assert producer.flush(PATIENCE_S) == 0


async def test_a_record_that_cannot_be_decoded_is_refused_and_holds_up_none_behind_it(
    kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    async with served(kafka, redis_settings) as endpoint:
        plain = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)  # an idempotent one numbers batches that it makes itself
        await plain.start()
        idempotent, endpoint.producer = endpoint.producer, plain
        first = await submit_batch(endpoint, 2, "a", NoText("b"), "c")
        endpoint.producer = idempotent
        expected = await endpoint.submit(200)
        await plain.stop()
        await endpoint.switch(True)
        endpoint.has_room = True
        with submissions(kafka, redis_settings, tmp_path) as process:
            await endpoint.read_until(lambda: endpoint.requests.keys() >= expected and len(endpoint.results) == 2)
            async with asyncio.timeout(PATIENCE_S):
                while await endpoint.not_read_yet():
                    await asyncio.sleep(0.1)
            assert process.poll() is None, "the same process all the while"
    refused = {result.submission: (result.status, result.key) for result in endpoint.results}
    assert refused == {f"2/{first + 1}": (400, b""), f"2/{first + 2}": (400, b"")}
    assert endpoint.requests.keys() - expected == {
        copies[0].request_id for copies in endpoint.requests.values() if copies[0].submission == f"2/{first}"
    }


async def test_records_of_producers_that_compress_reach_the_pools(
    kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    codecs = ("gzip", "snappy", "lz4", "zstd")
    async with served(kafka, redis_settings) as endpoint:
        await endpoint.switch(True)
        endpoint.has_room = True
        for codec in codecs:
            await asyncio.to_thread(submit_compressed, kafka, requests_topic(endpoint.name), codec)
        with submissions(kafka, redis_settings, tmp_path):
            await endpoint.read_until(lambda: len(endpoint.requests) == 5 * len(codecs))
    requests = [copies[0] for copies in endpoint.requests.values()]
    assert Counter(request.key.decode() for request in requests) == dict.fromkeys(codecs, 5)
    assert {request.body for request in requests} == {b"{}" * 500}
