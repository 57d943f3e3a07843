"""One pool on real servers with a client that knows what it sent; its replicas are real processes, its model is laid in place."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import psutil
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from services.scorer.environment import HOST_PYTHON
from services.scorer.requirements import read_environment_spec
from services.shared.control_events import ConfigSpec, EndpointCreated, EntitySpec, Route
from services.shared.envelope import Outcome, ScoringReply, ScoringRequest, new_request_id, request_headers, unpack_outcomes, unpack_replies
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.presence import ReplicaReport, read_replicas
from services.shared.redis_clients import new_redis
from services.shared.results import ScoringResult, parse_result
from services.shared.secret_box import SecretBox
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import (
    BATCH_RESULTS,
    DEAD_LETTERS,
    OUTCOMES,
    Queue,
    bulk_queue,
    create_topics,
    online_queue,
    pool_topic,
    queues_of,
)

PARTITIONS = 4
PATIENCE_S = 45


@dataclass
class Bench:
    """`environment` is the folder of the interpreter that the model runs in: this project's, behind a wrapper."""

    kafka: KafkaSettings
    redis_url: str
    state: Path
    environment: Path
    pool_id: str
    redis: Redis
    producer: AIOKafkaProducer
    stream: str
    starts: dict[TopicPartition, int]  # ends of the shared topics when this bench was opened
    tracking_uri: str = "unused"
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def online(self) -> Queue:
        return online_queue(self.pool_id)

    @property
    def log_file(self) -> Path:
        return self.state / "replica.log"

    async def start(self, number: int = 0, command: tuple[str, ...] = ("-m", "services.scorer"), **more: str) -> asyncio.subprocess.Process:
        env = {
            **os.environ,
            "PENSTOCK_STATE": str(self.state),
            "PENSTOCK_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "PENSTOCK_REDIS_URL": self.redis_url,
            "PENSTOCK_MLFLOW_TRACKING_URI": self.tracking_uri,
            "PENSTOCK_SCORER_POOL_ID": self.pool_id,
            "PENSTOCK_SCORER_REPLICA_ID": f"{self.pool_id}-{number}",
            **more,
        }
        with self.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    async def phase(self, *phases: str, number: int = 0) -> ReplicaReport:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for report in await read_replicas(self.redis, [f"{self.pool_id}-{number}"]):
                    assert report.phase != "failed" or "failed" in phases, report.message
                    if report.phase in phases:
                        return report
                await asyncio.sleep(0.05)

    async def send(self, value: float, partition: int = 0, wait_s: float = 60.0, body: bytes | None = None) -> ScoringRequest:
        now_ms = time.time_ns() // 1_000_000
        payload = body or json.dumps({"inputs": [[value]], "client_request_id": f"mine {value:g}"}).encode()
        request = ScoringRequest(
            new_request_id(), "endpoint", "bench", "m-1", "sid", "admin", now_ms, now_ms + round(wait_s * 1000),
            self.stream, "main.default.bench_payload", "application/json", "", 0, payload,
        )  # fmt: skip
        await self.producer.send_and_wait(self.online.topic, request.body, partition=partition, headers=request_headers(request))
        return request

    async def submit(self, value: float, partition: int = 0) -> ScoringRequest:
        """As bulk work: nobody waits at a stream, the result goes to Kafka."""
        now_ms = time.time_ns() // 1_000_000
        payload = json.dumps({"inputs": [[value]]}).encode()
        request = ScoringRequest(
            new_request_id(), "endpoint", "bench", "m-1", "sid", "admin", now_ms, now_ms + 60_000, "", "main.default.bench_payload",
            "application/json", "", 1, payload, results_to=BATCH_RESULTS, key=b"mine",
        )  # fmt: skip
        topic = bulk_queue(self.pool_id).topic
        await self.producer.send_and_wait(topic, request.body, key=request.key, partition=partition, headers=request_headers(request))
        return request

    async def results(self, *requests: ScoringRequest) -> list[ScoringResult]:
        """The first result of each, when all are there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found: dict[str, ScoringResult] = {}
                for record in await self._records(BATCH_RESULTS):
                    result = parse_result(record.headers, record.value, record.key)
                    found.setdefault(result.request_id, result)
                if all(r.request_id in found for r in requests):
                    return [found[r.request_id] for r in requests]
                await asyncio.sleep(0.05)

    async def answers(self, *requests: ScoringRequest) -> list[ScoringReply]:
        """The first reply of each, when all are there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found: dict[str, ScoringReply] = {}
                for reply in await self.replies():
                    found.setdefault(reply.request_id, reply)
                if all(r.request_id in found for r in requests):
                    return [found[r.request_id] for r in requests]
                await asyncio.sleep(0.05)

    async def replies(self) -> list[ScoringReply]:
        """All there are, repeats included."""
        entries: Any = await self.redis.xrange(self.stream)
        return [reply for _, fields in entries for reply in unpack_replies(fields[b"p"])]

    async def rows(self, *requests: ScoringRequest) -> list[Outcome]:
        rows = {row.request_id: row for record in await self._records(OUTCOMES) for row in unpack_outcomes(record.value)}
        return [rows[r.request_id] for r in requests]

    async def dead_letter_ids(self) -> set[str]:
        headers = [header for record in await self._records(DEAD_LETTERS) for header in record.headers]
        return {value.decode() for name, value in headers if name == "ce_id"}

    async def lag_is_zero(self, queue: Queue | None = None) -> None:
        """Of the online queue, unless another is named."""
        queue = queue or self.online
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(PATIENCE_S), new_consumer(self.kafka) as consumer:
                partitions = [TopicPartition(queue.topic, n) for n in range(PARTITIONS)]
                while True:
                    ends = await consumer.end_offsets(partitions)
                    committed = await admin.list_consumer_group_offsets(queue.group)
                    if all(not end or (p in committed and committed[p].offset == end) for p, end in ends.items()):
                        return
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()

    def worker(self) -> psutil.Process:
        return self.workers()[0]

    def workers(self) -> list[psutil.Process]:
        """The oldest first."""
        children = psutil.Process(self.processes[-1].pid).children()
        found = [child for child in children if "model_worker/__main__.py" in " ".join(child.cmdline())]
        return sorted(found, key=lambda child: (child.create_time(), child.pid))

    async def busy(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.phase("ready")).in_flight < count:
                await asyncio.sleep(0.05)

    async def _records(self, topic: str) -> list[ConsumerRecord]:
        """What has come since this bench was opened: other tests leave records of theirs, garbage too."""
        records: list[ConsumerRecord] = []
        starts = {p: offset for p, offset in self.starts.items() if p.topic == topic}
        async with new_consumer(self.kafka) as consumer:
            consumer.assign(list(starts))
            ends = await consumer.end_offsets(list(starts))
            for partition, start in starts.items():
                consumer.seek(partition, start)
                while await consumer.position(partition) < ends[partition]:
                    records += (await consumer.getmany(partition, timeout_ms=200)).get(partition, [])
        return records


async def ends_now(kafka: KafkaSettings) -> dict[TopicPartition, int]:
    shared = [
        TopicPartition(DEAD_LETTERS, 0),
        TopicPartition(BATCH_RESULTS, 0),
        *(TopicPartition(OUTCOMES, n) for n in range(kafka.outcome_partitions)),
    ]
    async with new_consumer(kafka) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(shared)
        return ends


@asynccontextmanager
async def open_bench(
    kafka: KafkaSettings, redis_settings: RedisSettings, state: Path, model: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Bench]:
    """A pool whose model is fetched and whose environment is this one's: building has a test of its own."""
    box = SecretBox.from_file(state / "secret.key")
    sealed = {name: box.seal(value) for name, value in variables.items()}
    entity = EntitySpec(name="m-1", model_name="m", model_version="1", environment_vars=sealed)
    config = ConfigSpec(entities=(entity,), routes=(Route(entity="m-1", traffic_percentage=100),))
    event = EndpointCreated(at_ms=1, name=f"bench-{uuid4().hex}", creator="admin", config=config)
    events = EventLog(kafka)
    await events.start()
    control = await events.publish(event)
    await events.stop()
    pool_id = next(p.pool_id for p in control.pools.values() if p.endpoint_id == event.endpoint_id)
    shutil.copytree(model, state / "models" / pool_id)
    environment = state / "environments" / read_environment_spec(model, HOST_PYTHON).digest
    (environment / "bin").mkdir(parents=True)
    lay_wrapper(environment, f'exec {sys.executable} "$@"')
    (environment / ".complete").touch()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await create_topics(admin, [pool_topic(queue, PARTITIONS, kafka) for queue in queues_of(pool_id)])
    await admin.close()
    redis, producer = new_redis(redis_settings), new_producer(kafka)
    await producer.start()
    stream = f"penstock:replies:{uuid4().hex}"
    await redis.xadd(stream, {b"p": b"\x90"})
    bench = Bench(kafka, redis_settings.url, state, environment, pool_id, redis, producer, stream, await ends_now(kafka))
    try:
        yield bench
    finally:
        for process in bench.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await bench.producer.stop()
        await redis.aclose()


def lay_wrapper(environment: Path, line: str) -> None:
    """An interpreter that is a script, since a link would make another environment of it."""
    (environment / "bin" / "python").write_text(f"#!/bin/sh\n{line}\n")
    (environment / "bin" / "python").chmod(0o755)
