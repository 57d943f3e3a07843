"""The whole replica as a process, on real Kafka and Redis; its model is laid in place and scored in this project's environment."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from services.shared.control_events import ConfigSpec, EndpointCreated, EntitySpec, Route
from services.shared.envelope import Outcome, ScoringReply, ScoringRequest, new_request_id, request_headers, unpack_outcomes, unpack_replies
from services.shared.event_log import EventLog
from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.presence import ReplicaReport, read_replicas
from services.shared.redis_clients import new_redis
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import DEAD_LETTERS, OUTCOMES, create_topics, online_topic, pool_group, pool_topic

PARTITIONS = 4
PATIENCE_S = 30


@dataclass
class Bench:
    """One pool with a client that knows what it sent."""

    kafka: KafkaSettings
    redis_url: str
    state: Path
    pool_id: str
    redis: Redis
    producer: AIOKafkaProducer
    stream: str
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, **more: str) -> asyncio.subprocess.Process:
        env = {
            **os.environ,
            "PENSTOCK_STATE": str(self.state),
            "PENSTOCK_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "PENSTOCK_REDIS_URL": self.redis_url,
            "PENSTOCK_MLFLOW_TRACKING_URI": "unused",
            "PENSTOCK_SCORER_POOL_ID": self.pool_id,
            "PENSTOCK_SCORER_REPLICA_ID": f"{self.pool_id}-0",
            **more,
        }
        with (self.state / "replica.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.scorer", env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    async def phase(self, *phases: str) -> ReplicaReport:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for report in await read_replicas(self.redis, [f"{self.pool_id}-0"]):
                    assert report.phase != "failed", report.message
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
        await self.producer.send_and_wait(online_topic(self.pool_id), request.body, partition=partition, headers=request_headers(request))
        return request

    async def answers(self, *requests: ScoringRequest) -> list[ScoringReply]:
        """The first reply of each, when all are there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found: dict[str, ScoringReply] = {}
                entries: Any = await self.redis.xrange(self.stream)
                for _, fields in entries:
                    for reply in unpack_replies(fields[b"p"]):
                        found.setdefault(reply.request_id, reply)
                if all(r.request_id in found for r in requests):
                    return [found[r.request_id] for r in requests]
                await asyncio.sleep(0.05)

    async def rows(self, *requests: ScoringRequest) -> list[Outcome]:
        rows = {row.request_id: row for value in await self._read(OUTCOMES, 4) for row in unpack_outcomes(value)}
        return [rows[r.request_id] for r in requests]

    async def dead_letter_ids(self) -> set[str]:
        consumer = new_consumer(self.kafka)
        async with consumer:
            partition = TopicPartition(DEAD_LETTERS, 0)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            await consumer.seek_to_beginning(partition)
            found: set[str] = set()
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, []):
                    found |= {value.decode() for name, value in record.headers if name == "ce_id"}
            return found

    async def lag_is_zero(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(PATIENCE_S), new_consumer(self.kafka) as consumer:
                partitions = [TopicPartition(online_topic(self.pool_id), n) for n in range(PARTITIONS)]
                while True:
                    ends = await consumer.end_offsets(partitions)
                    committed = await admin.list_consumer_group_offsets(pool_group(self.pool_id))
                    if all(not end or (p in committed and committed[p].offset == end) for p, end in ends.items()):
                        return
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()

    def worker(self) -> psutil.Process:
        children = psutil.Process(self.processes[-1].pid).children()
        return next(child for child in children if "model_worker.py" in " ".join(child.cmdline()))

    async def busy(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.phase("ready")).in_flight < count:
                await asyncio.sleep(0.05)

    async def _read(self, topic: str, partitions: int) -> list[bytes]:
        values: list[bytes] = []
        async with new_consumer(self.kafka) as consumer:
            held = [TopicPartition(topic, n) for n in range(partitions)]
            consumer.assign(held)
            ends = await consumer.end_offsets(held)
            await consumer.seek_to_beginning(*held)
            for partition in held:
                while await consumer.position(partition) < ends[partition]:
                    values += [r.value for r in (await consumer.getmany(partition, timeout_ms=200)).get(partition, [])]
        return values


@pytest.fixture(scope="module")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    script = Path(__file__).with_name("scripted_model.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow warns about its own type hints while it is imported
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(folder, python_model=str(script), pip_requirements=["mlflow-skinny", "pandas"])
    return folder


@pytest.fixture
async def bench(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path, scripted_model: Path) -> AsyncIterator[Bench]:
    """A pool whose model is fetched and whose environment is this one's: building has a test of its own."""
    from services.scorer.environment import HOST_PYTHON
    from services.scorer.requirements import read_environment_spec

    entity = EntitySpec(name="m-1", model_name="m", model_version="1")
    config = ConfigSpec(entities=(entity,), routes=(Route(entity="m-1", traffic_percentage=100),))
    event = EndpointCreated(
        at_ms=1, name=f"bench-{uuid4().hex}", creator="admin", config=config
    )  # fmt: skip
    events = EventLog(kafka)
    await events.start()
    state = await events.publish(event)
    await events.stop()
    pool_id = next(p.pool_id for p in state.pools.values() if p.endpoint_id == event.endpoint_id)
    shutil.copytree(scripted_model, tmp_path / "models" / pool_id)
    environment = tmp_path / "environments" / read_environment_spec(scripted_model, HOST_PYTHON).digest
    (environment / "bin").mkdir(parents=True)
    # a wrapper, since a link would make another environment of it
    (environment / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (environment / "bin" / "python").chmod(0o755)
    (environment / ".complete").touch()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await create_topics(admin, [pool_topic(pool_id, PARTITIONS, kafka)])
    await admin.close()
    redis, producer = new_redis(redis_settings), new_producer(kafka)
    await producer.start()
    stream = f"penstock:replies:{uuid4().hex}"
    await redis.xadd(stream, {b"p": b"\x90"})
    bench = Bench(kafka, redis_settings.url, tmp_path, pool_id, redis, producer, stream)
    yield bench
    for process in bench.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await producer.stop()
    await redis.aclose()


async def test_scores_logs_commits_and_drains(bench: Bench) -> None:
    replica = await bench.start()
    await bench.phase("ready")
    good, raised, nan = await bench.send(21), await bench.send(-2, 1), await bench.send(-3, 2)
    late = await bench.send(1, 3, wait_s=-1)
    await bench.producer.send_and_wait(online_topic(bench.pool_id), b"no envelope", partition=3)
    a_good, a_raised, a_nan, a_late = await bench.answers(good, raised, nan, late)
    assert (a_good.status, json.loads(a_good.body)) == (200, {"predictions": [42.0]})
    assert (a_raised.status, json.loads(a_raised.body)["error_code"]) == (400, "BAD_REQUEST")
    assert "the model does not like this" in json.loads(a_raised.body)["stack_trace"]
    assert json.loads(a_nan.body) == {"predictions": [None]}
    assert (a_late.status, json.loads(a_late.body)["error_code"]) == (504, "DEADLINE_EXCEEDED")
    await bench.lag_is_zero()
    rows = await bench.rows(good, raised, nan, late)
    assert [r.status for r in rows] == [200, 400, 200, 504]
    assert [r.client_request_id for r in rows] == ["mine 21", "mine -2", "mine -3", "mine 1"]
    slow = await bench.send(1_500)
    await bench.busy(1)
    replica.send_signal(signal.SIGTERM)
    assert await replica.wait() == 0
    assert (await bench.answers(slow))[0].status == 200
    await bench.lag_is_zero()


async def test_a_killed_worker_costs_no_request(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    requests = [await bench.send(800 + n, n % PARTITIONS) for n in range(8)]
    await bench.busy(4)
    bench.worker().kill()
    assert [json.loads(a.body) for a in await bench.answers(*requests)] == [{"predictions": [2.0 * (800 + n)]} for n in range(8)]
    await bench.lag_is_zero()


async def test_poison_costs_three_attempts_and_no_neighbour(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    neighbours = [await bench.send(700, n) for n in range(3)]
    poison = await bench.send(-1, 3)
    assert [a.status for a in await bench.answers(*neighbours)] == [200] * 3
    (crashed,) = await bench.answers(poison)
    assert (crashed.status, json.loads(crashed.body)["error_code"]) == (500, "INTERNAL_ERROR")
    await bench.lag_is_zero()
    assert poison.request_id in await bench.dead_letter_ids()
    assert (await bench.rows(poison))[0].status == 500
    assert await bench.redis.get(f"penstock:attempts:{poison.request_id}") == b"3"


async def test_a_killed_host_costs_only_time(bench: Bench) -> None:
    first = await bench.start()
    await bench.phase("ready")
    requests = [await bench.send(1_000 + n, n % PARTITIONS) for n in range(6)]
    await bench.busy(4)
    worker = bench.worker()
    first.kill()
    await first.wait()
    await bench.redis.delete(f"penstock:replica:{bench.pool_id}-0")
    await bench.start()
    assert [json.loads(a.body) for a in await bench.answers(*requests)] == [{"predictions": [2.0 * (1_000 + n)]} for n in range(6)]
    await bench.lag_is_zero()
    assert not worker.is_running()


async def test_evaluation_over_its_limit_is_a_504_and_its_neighbour_is_answered(bench: Bench) -> None:
    await bench.start(PENSTOCK_SCORER_EVALUATION_LIMIT_S="2")
    await bench.phase("ready")
    endless, neighbour = await bench.send(30_000), await bench.send(1_500, 1)
    answers = await bench.answers(endless, neighbour)
    assert [a.status for a in answers] == [504, 200]


async def test_refusing_host_answers_what_is_left(bench: Bench) -> None:
    left, late = await bench.send(1), await bench.send(1, 1, wait_s=-1)
    await bench.start(PENSTOCK_SCORER_REFUSING="1")
    assert [a.status for a in await bench.answers(left, late)] == [503, 504]
    await bench.lag_is_zero()
    assert [r.status for r in await bench.rows(left, late)] == [503, 504]


async def test_a_pool_that_is_not_there_is_a_normal_end(bench: Bench) -> None:
    gone = replace(bench, pool_id="gone", processes=bench.processes)
    assert await (await gone.start()).wait() == 0
