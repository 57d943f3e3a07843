"""The logger as a process on a real broker: whatever dies, each request is one row."""

import asyncio
import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from zlib import crc32

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from deltalake import DeltaTable

from services.logger.rows import ID
from services.shared.envelope import Outcome, new_request_id, pack_outcomes
from services.shared.kafka_clients import new_consumer, new_producer
from services.shared.readiness import READY_VARIABLE
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import DEAD_LETTERS, OUTCOMES
from tests.integration.logger.conftest import SmallDisk
from tests.unit.logger.outcomes import outcome

READY_S = 30.0
LOGGED_S = 45.0


@dataclass
class Stack:
    """Loggers on one tables folder, and what was sent to them."""

    kafka: KafkaSettings
    redis: RedisSettings
    state: Path
    table: str = field(default_factory=lambda: f"main.churn.t{uuid.uuid4().hex}_payload")
    sent: list[str] = field(default_factory=list)
    processes: list[Popen[bytes]] = field(default_factory=list)

    def start_logger(self, instance: str = "logger-0", flush_s: float = 0.2) -> tuple[Popen[bytes], int]:
        """The process and the descriptor on which it says that it is ready."""
        reading, writing = os.pipe()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment |= {
            "PENSTOCK_STATE": str(self.state),
            "PENSTOCK_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "PENSTOCK_REDIS_URL": self.redis.url,
            "PENSTOCK_LOGGER_INSTANCE": instance,
            "PENSTOCK_LOGGER_FLUSH_S": str(flush_s),
            "PENSTOCK_LOGGER_COMPACT_COMMITS": "10",
            READY_VARIABLE: str(writing),
        }
        with (self.state / f"{instance}.log").open("ab") as log:
            process = Popen([sys.executable, "-m", "services.logger"], env=environment, stdout=log, stderr=log, pass_fds=[writing])
        os.close(writing)
        self.processes.append(process)
        return process, reading

    async def ready_logger(self, instance: str = "logger-0", flush_s: float = 0.2) -> Popen[bytes]:
        process, descriptor = self.start_logger(instance, flush_s)
        with os.fdopen(descriptor, "rb") as pipe:
            async with asyncio.timeout(READY_S):
                assert await asyncio.to_thread(pipe.readline) == b"READY=1\n"
        return process

    def rows(self) -> Counter[str]:
        """How many rows each of this test's requests has."""
        path = self.state.joinpath("tables", *self.table.split("."))
        if not DeltaTable.is_deltatable(str(path)):
            return Counter()
        return Counter(DeltaTable(path).to_pyarrow_table(columns=[ID])[ID].to_pylist())

    async def logged_up_to_now(self) -> None:
        """Wait until what was sent before this call has rows."""
        await until(lambda: bool(self.sent), LOGGED_S)
        sent = set(self.sent)
        await until(lambda: sent <= self.rows().keys(), LOGGED_S)

    async def all_logged(self) -> None:
        """Wait until every request has a row, then check that none has two and that none is there that was never sent."""
        await until(lambda: set(self.sent) <= self.rows().keys(), LOGGED_S)
        assert self.rows() == Counter(set(self.sent))


@pytest.fixture
def stack(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path) -> Iterator[Stack]:
    running = Stack(kafka, redis_settings, tmp_path)
    yield running
    for process in running.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()


async def until(true: Callable[[], bool], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.1)


async def send(producer: AIOKafkaProducer, stack: Stack, ids: list[str]) -> None:
    """Pack the ids into one record per partition; an id always goes to the same partition (R4)."""
    by_partition: dict[int, list[Outcome]] = {}
    for request_id in ids:
        by_partition.setdefault(crc32(request_id.encode()) % 4, []).append(outcome(request_id, stack.table))
    for partition, outcomes in by_partition.items():
        for pack in pack_outcomes(outcomes):
            await producer.send_and_wait(OUTCOMES, pack, partition=partition)
    stack.sent += ids


@asynccontextmanager
async def load(stack: Stack, producer: AIOKafkaProducer, every_s: float = 0.02) -> AsyncIterator[None]:
    """Produce in the background: small packs, and every second time two earlier ids delivered again."""
    stop, draw = asyncio.Event(), random.Random(1)

    async def produce() -> None:
        while not stop.is_set():
            again = [draw.choice(stack.sent) for _ in range(2)] if stack.sent and draw.random() < 0.5 else []
            await send(producer, stack, [new_request_id() for _ in range(10)] + again)
            await asyncio.sleep(every_s)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce(), name="load")
        yield
        stop.set()


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    made = new_producer(kafka)
    await made.start()
    yield made
    await made.stop()


async def test_a_stopped_logger_logs_what_was_produced_before_the_stop_and_exits_0(stack: Stack, producer: AIOKafkaProducer) -> None:
    process = await stack.ready_logger(flush_s=1)
    for _ in range(20):
        await send(producer, stack, [new_request_id() for _ in range(10)])
    before = set(stack.sent)
    async with load(stack, producer, every_s=0.005):  # what comes during the stop is taken as well, and left for the next logger
        process.terminate()
        assert await asyncio.to_thread(process.wait, 15) == 0
    rows = stack.rows()
    assert before <= rows.keys()
    assert set(rows.values()) == {1}


async def test_kill_9_every_few_seconds_loses_and_doubles_nothing(stack: Stack, producer: AIOKafkaProducer) -> None:
    draw = random.Random(2)
    async with load(stack, producer):
        process = await stack.ready_logger()
        await stack.logged_up_to_now()
        process.kill()
        process.wait()
        for _ in range(6):
            process, descriptor = stack.start_logger()
            await asyncio.sleep(draw.uniform(1.5, 4))  # the fault's own rhythm: some die at their start, some in a commit
            process.kill()
            process.wait()
            os.close(descriptor)
    await stack.ready_logger()
    await stack.all_logged()


async def test_two_loggers_share_the_partitions_while_one_is_killed_and_comes_back(stack: Stack, producer: AIOKafkaProducer) -> None:
    first, second = fresh_names()
    async with load(stack, producer):
        await stack.ready_logger(first)
        killed = await stack.ready_logger(second)
        await stack.logged_up_to_now()
        killed.kill()
        killed.wait()
        await stack.ready_logger(second)
    await stack.all_logged()


async def test_a_zombie_that_wakes_up_after_its_partitions_moved_on_doubles_nothing(stack: Stack, producer: AIOKafkaProducer) -> None:
    first, second = fresh_names()
    zombie = await stack.ready_logger(first)
    async with load(stack, producer):
        await stack.logged_up_to_now()
        zombie.send_signal(signal.SIGSTOP)
        await stack.ready_logger(second)
        await stack.logged_up_to_now()  # so the zombie's partitions, and what it had taken, are the other's now
        zombie.send_signal(signal.SIGCONT)
        await stack.logged_up_to_now()
    await stack.all_logged()


def fresh_names() -> tuple[str, str]:
    """Names the group has never seen: under a known name a logger would get its old partitions back at once."""
    run = uuid.uuid4().hex
    return f"{run}-a", f"{run}-b"


async def test_garbage_and_the_rows_of_a_broken_table_go_to_the_dead_letters_and_others_are_logged(
    stack: Stack, producer: AIOKafkaProducer, kafka: KafkaSettings
) -> None:
    broken = f"main.broken.t{uuid.uuid4().hex}_payload"
    path = stack.state.joinpath("tables", *broken.split("."))
    path.mkdir(parents=True)
    (path / "somebody's file").touch()
    lost, garbage = new_request_id(), uuid.uuid4().bytes
    await stack.ready_logger()
    await producer.send_and_wait(OUTCOMES, garbage, partition=1)
    await producer.send_and_wait(OUTCOMES, next(pack_outcomes([outcome(lost, broken), outcome(new_request_id(), "")])), partition=1)
    await send(producer, stack, [new_request_id() for _ in range(20)])
    await stack.all_logged()
    unreadable, quarantined = await dead_letters(kafka, [garbage, lost.encode()])
    assert unreadable.value == garbage
    assert unreadable.error.startswith("not a pack")
    assert lost.encode() in quarantined.value
    assert "the folder holds something that is no Delta table" in quarantined.error


async def test_a_full_disk_and_deaths_meanwhile_lose_and_double_nothing(
    small_disk: SmallDisk, stack: Stack, producer: AIOKafkaProducer
) -> None:
    process, log = await stack.ready_logger(), stack.state / "logger-0.log"
    await send(producer, stack, [new_request_id() for _ in range(20)])
    await stack.all_logged()
    small_disk.fill()
    for _ in range(2):
        await send(producer, stack, [new_request_id() for _ in range(20)] + stack.sent[:5])
        await until(lambda: "no space left for inference tables" in log.read_text(), LOGGED_S)
        process.kill()
        process.wait()
        log.unlink()
        process = await stack.ready_logger()
    small_disk.free()
    await stack.all_logged()


@dataclass(frozen=True)
class DeadLetter:
    value: bytes
    error: str


async def dead_letters(kafka: KafkaSettings, holding: list[bytes]) -> list[DeadLetter]:
    """The first dead letter that holds each of these."""
    consumer: AIOKafkaConsumer = new_consumer(kafka, DEAD_LETTERS)
    await consumer.start()
    found: dict[bytes, DeadLetter] = {}
    try:
        async with asyncio.timeout(LOGGED_S):
            while len(found) < len(holding):
                record = await consumer.getone()
                letter = DeadLetter(record.value or b"", dict(record.headers)["penstock-error"].decode())
                found |= {wanted: letter for wanted in holding if wanted in letter.value and wanted not in found}
    finally:
        await consumer.stop()
    return [found[wanted] for wanted in holding]
