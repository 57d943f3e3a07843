"""The trusted half of a replica: takes the records of a queue as lanes come free, commits what is finished, and drains."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from redis.asyncio import Redis

from services.scorer.answers import CRASHED, EXPIRED, FAILED_HERE, OVER_MEMORY, Answer, is_expired
from services.scorer.attempts import Attempts
from services.scorer.finisher import Answered, Finisher, dead_letter
from services.scorer.jobs import Job
from services.scorer.offsets import PartitionOffsets
from services.shared.clock import now_ms
from services.shared.envelope import parse_request
from services.shared.errors import EnvelopeInvalid
from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.topics import Queue

POLL_MS = 200
NO_PARTITION = -1
READ_PAUSE_S = 1.0
READ_TRIES = 60
REVOKE_PATIENCE_S = 5.0
LEAVE_PATIENCE_S = 10.0
LONGEST_BACKLOG = 256  # answers not yet acknowledged; beyond it nothing new is taken
STALL_LOOK_S = 15.0
STALL_LOOKS = 4
EXPIRY_LOOK_S = 0.1

log = logging.getLogger(__name__)


class Evaluator(Protocol):
    """Gives every job that is submitted its one answer: the lanes of a model, or a refusal."""

    @property
    def in_flight(self) -> int:
        """Jobs that take up room."""

    @property
    def capacity(self) -> int:
        """How many jobs may be in flight now."""

    @property
    def freed(self) -> asyncio.Event:
        """Set whenever there is room again; whoever waits clears it."""

    def submit(self, jobs: Sequence[Job]) -> None: ...


class ConsumerStuck(Exception):
    """Records wait, lanes are free, and the consumer brings nothing or only fails: a new process is the cure (traps C3)."""


class Host(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        pool_id: str,
        replica_id: str,
        queue: Queue,
        kafka: KafkaSettings,
        redis: Redis,
        attempts: Attempts,
        evaluator: Evaluator,
        max_poll_interval_s: float = 300.0,
    ) -> None:
        self._topic = queue.topic
        self._attempts = attempts
        self._evaluator = evaluator
        self._finisher = Finisher(pool_id, replica_id, kafka, redis, self._commit)
        self._offsets: dict[TopicPartition, PartitionOffsets] = {}
        self._unseen_from: dict[TopicPartition, int] = {}  # below it, a record may have been delivered before
        self._unanswered: set[Job] = set()
        self._settled = asyncio.Condition()
        self._committed: dict[TopicPartition, int] = {}
        self._assigned = asyncio.Event()
        self._committing = asyncio.Lock()
        self._stopping = False
        self._assignments = 0  # that have ended
        self._has_backlog = False  # the last poll brought all that there was room for
        self._last_polled = TopicPartition(queue.topic, NO_PARTITION)  # of partitions that are polled in turn
        self._consumer: AIOKafkaConsumer = new_consumer(
            kafka,
            group_id=queue.group,
            partition_assignment_strategy=[StickyPartitionAssignor],
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,  # by which its members learn that another joins: as long the newcomer waits
            rebalance_timeout_ms=15_000,
            max_poll_interval_ms=round(max_poll_interval_s * 1000),
        )

    async def start(self) -> None:
        """Join the group; returns when partitions are assigned and positioned."""
        await self._consumer.start()
        self._consumer.subscribe([self._topic], listener=self)
        await self._assigned.wait()
        for partition in self._consumer.assignment():
            with suppress(IllegalStateError):  # a rebalance took it away meanwhile; whoever has it now positions it
                await self._consumer.position(partition)

    async def run(self) -> None:
        """Take and score until `drain` is called."""
        tasks = {
            name: asyncio.create_task(task, name=name)
            for name, task in {
                "finisher": self._finisher.run(),
                "expiry": self._expire(),
                "consumer-watchdog": self._watch(),
                "take-records": self._take(),
            }.items()
        }
        taking = tasks.pop("take-records")
        try:
            await asyncio.wait([taking, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks.values():
                if task.done():
                    task.result()
            await taking
            await self._finisher.drained()
            await self._commit()
        finally:
            for task in (taking, *tasks.values()):
                task.cancel()
            await asyncio.gather(taking, *tasks.values(), return_exceptions=True)

    def stop_taking(self) -> None:
        """From now on `run` finishes what it has and returns."""
        self._stopping = True
        self._evaluator.freed.set()

    async def leave(self) -> None:
        await self._finisher.stop()
        with suppress(TimeoutError):  # one that is stuck must not keep the process from its end
            async with asyncio.timeout(LEAVE_PATIENCE_S):
                await self._consumer.stop()

    async def _take(self) -> None:
        failures = 0
        while not self._stopping or self._evaluator.in_flight:
            if not self._takes_more():
                self._evaluator.freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_MS / 1000):
                        await self._evaluator.freed.wait()
            try:
                batches = await self._poll()
            except KafkaError as error:
                failures += 1
                if failures >= READ_TRIES:
                    raise ConsumerStuck(f"no poll in {failures} succeeded") from error
                log.warning("records cannot be read, trying again", exc_info=True)
                await asyncio.sleep(READ_PAUSE_S)
                continue
            failures = 0
            jobs = [await self._accepted(partition, record) for partition, records in batches.items() for record in records]
            self._evaluator.submit([job for job in jobs if job])

    def _takes_more(self) -> bool:
        return not self._stopping and self._room() > 0 and self._finisher.backlog <= LONGEST_BACKLOG

    def _room(self) -> int:
        return self._evaluator.capacity - self._evaluator.in_flight

    async def _poll(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        """At most what the lanes can use now. If that is none the poll names a partition that is not there.

        Who does not poll has to leave the group after a while (traps H8); who pauses throws away what is fetched ahead.
        """
        batches: dict[TopicPartition, list[ConsumerRecord]]
        if not self._takes_more():
            batches = await self._consumer.getmany(TopicPartition(self._topic, NO_PARTITION))
            return batches
        room = self._room()
        if self._has_backlog:
            batches = await self._poll_in_turn(room)
        else:
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=room)
        self._has_backlog = sum(map(len, batches.values())) >= room
        return batches

    async def _poll_in_turn(self, room: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """The same share of each partition, then what else there is: the consumer itself empties what it has of one before it looks
        at the next, where as old ones wait.
        """
        batches: dict[TopicPartition, list[ConsumerRecord]] = {}
        held, assignments = in_turn(self._consumer.assignment(), self._last_polled), self._assignments
        share, left = ceil(room / max(1, len(held))), room
        for asked in (*((partition,) for partition in held), ()):
            try:
                found = await self._consumer.getmany(*asked, max_records=min(share, left) if asked else left)
            except KafkaError:
                if not batches:
                    raise
                log.warning("records of a partition cannot be read now", exc_info=True)  # those read before must not be lost
                break
            if assignments != self._assignments:
                return {}  # a rebalance came between: all is read again from what is committed
            for partition, records in found.items():
                batches.setdefault(partition, []).extend(records)
                left -= len(records)
                self._last_polled = partition
            if not left:
                break
        return batches

    async def _accepted(self, partition: TopicPartition, record: ConsumerRecord) -> Job | None:
        """The record's job; none for what is no request."""
        offsets = self._offsets.get(partition)
        if offsets is None or record.offset <= offsets.last_taken:  # newly assigned, perhaps after a position further on
            offsets = self._offsets[partition] = PartitionOffsets()
            self._unseen_from[partition] = self._consumer.highwater(partition) or 0
        offsets.take(record.offset)
        settled = partial(offsets.finish, record.offset)
        try:
            request = parse_request(record.headers, record.value, record.key)
        except EnvelopeInvalid as error:
            log.error("record is no request, moved to the dead letters", extra={"offset": record.offset, "error": error.message})
            self._finisher.put(Answered(settled, dead_letter=dead_letter(record, error.message, 0)))
            return None
        may_be_repeat = record.offset < self._unseen_from.get(partition, 0)
        crashes = await self._attempts.read(request.request_id) if may_be_repeat else 0
        job = Job(request, partial(self._answered, record, settled), crashes)
        self._unanswered.add(job)
        return job

    def _answered(self, record: ConsumerRecord, settled: Callable[[], None], job: Job, answer: Answer) -> None:
        self._unanswered.discard(job)
        failure = _failure(answer)
        letter = dead_letter(record, failure, job.crashes) if failure else None
        self._finisher.put(Answered(settled, job.request, answer, letter))

    async def _expire(self) -> None:
        """The caller gets its 504 at the deadline; a lane stays taken until its model returns."""
        while True:
            await asyncio.sleep(EXPIRY_LOOK_S)
            at_ms = now_ms()
            for job in [job for job in self._unanswered if is_expired(job.request, at_ms)]:
                job.answer(EXPIRED)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Finish what is being scored, for a few seconds at most, and commit; what is later is scored again elsewhere."""
        self._assignments += 1
        leaving = [self._offsets[p] for p in revoked if p in self._offsets]
        with suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_PATIENCE_S), self._settled:
                await self._settled.wait_for(lambda: not any(o.unfinished for o in leaving))
        await self._commit()
        for partition in revoked:
            self._offsets.pop(partition, None)
            self._committed.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        log.info("partitions assigned", extra={"partitions": sorted(p.partition for p in assigned)})
        self._assigned.set()

    async def _commit(self) -> None:
        """Commit what has finished contiguously in the partitions held now; a refused commit only means scoring again."""
        async with self._committing:
            held = self._consumer.assignment()
            ready = {p: o.next_offset for p, o in self._offsets.items() if p in held and o.next_offset is not None}
            news = {p: offset for p, offset in ready.items() if self._committed.get(p) != offset}
            if news:
                try:
                    await self._consumer.commit(news)
                    self._committed.update(news)
                except (KafkaError, IllegalStateError) as error:
                    log.warning("offsets cannot be committed now", extra={"error": repr(error)})
        async with self._settled:
            self._settled.notify_all()

    async def _watch(self) -> None:
        """Raise ConsumerStuck when positions stay behind the end although lanes are free."""
        looks, before = 0, None
        while True:
            await asyncio.sleep(STALL_LOOK_S)
            positions = await self._positions_behind()
            looks = looks + 1 if positions and positions == before and self._takes_more() else 0
            before = positions
            if looks >= STALL_LOOKS:
                raise ConsumerStuck(f"no record for {looks * STALL_LOOK_S:g} s with records waiting")

    async def _positions_behind(self) -> dict[TopicPartition, int] | None:
        try:
            async with asyncio.timeout(STALL_LOOK_S):
                held = sorted(self._consumer.assignment())
                ends = await self._consumer.end_offsets(held) if held else {}
                positions = {p: await self._consumer.position(p) for p in held}
        except (KafkaError, IllegalStateError, TimeoutError):
            return None  # not knowing is not being stuck
        return {p: at for p, at in positions.items() if at < ends[p]}


def in_turn(partitions: Iterable[TopicPartition], last: TopicPartition) -> list[TopicPartition]:
    """All of them, beginning after the one whose turn it was last."""
    return sorted(partitions, key=lambda partition: (partition <= last, partition))


def _failure(answer: Answer) -> str | None:
    """What a dead letter says; None for an answer that needs none."""
    if answer is CRASHED:
        return "the model process crashed while scoring"
    if answer is OVER_MEMORY:
        return "the model process took more memory than its limit while scoring"
    return "the host failed while scoring" if answer is FAILED_HERE else None
