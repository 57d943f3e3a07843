"""The trusted half of a replica: takes records as lanes come free, commits what is finished, and drains."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Container
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from opentelemetry import metrics
from redis.asyncio import Redis

from services.scorer.answers import CANCELLED, CRASHED, EXPIRED, FAILED_HERE, Answer, is_expired
from services.scorer.attempts import Attempts
from services.scorer.finisher import Answered, Finisher, dead_letter
from services.scorer.offsets import PartitionOffsets
from services.shared.clock import now_ms
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.envelope import ScoringRequest, parse_request
from services.shared.errors import EnvelopeInvalid
from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings
from services.shared.telemetry import EVALUATION_DURATION, QUEUE_DURATION, span
from services.shared.topics import online_topic, pool_group

POLL_MS = 200
NO_PARTITION = -1
READ_PAUSE_S = 1.0
READ_TRIES = 60
REVOKE_PATIENCE_S = 5.0
LEAVE_PATIENCE_S = 10.0
LONGEST_BACKLOG = 256  # answers not yet acknowledged; beyond it nothing new is taken
STALL_LOOK_S = 15.0
STALL_LOOKS = 4
AVERAGE_WEIGHT = 0.1

log = logging.getLogger(__name__)

# Scores one request; `crashes` are known from earlier deliveries. Returns the answer and the crashes counted.
Evaluate = Callable[[ScoringRequest, int], Awaitable[tuple[Answer, int]]]


class ConsumerStuck(Exception):
    """Records wait, lanes are free, and the consumer brings nothing or only fails: a new process is the cure (traps C3)."""


class Host(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        pool_id: str,
        kafka: KafkaSettings,
        redis: Redis,
        attempts: Attempts,
        evaluate: Evaluate,
        max_poll_interval_s: float = 300.0,
        cancelled: Container[str] = (),
    ) -> None:
        self._topic = online_topic(pool_id)
        self._attempts = attempts
        self._evaluate = evaluate
        self._cancelled = cancelled
        self._finisher = Finisher(pool_id, kafka, redis, self._commit)
        self._offsets: dict[TopicPartition, PartitionOffsets] = {}
        self._unseen_from: dict[TopicPartition, int] = {}  # below it, a record may have been delivered before
        self._evaluations: set[asyncio.Task[None]] = set()
        self._lane_free = asyncio.Event()
        self._settled = asyncio.Condition()
        self._committed: dict[TopicPartition, int] = {}
        self._assigned = asyncio.Event()
        self._committing = asyncio.Lock()
        self._stopping = False
        self.evaluation_s: float | None = None  # moving average
        meter = metrics.get_meter("penstock")
        self._queued = meter.create_histogram(QUEUE_DURATION, unit="s")
        self._evaluated = meter.create_histogram(EVALUATION_DURATION, unit="s")
        self._consumer: AIOKafkaConsumer = new_consumer(
            kafka,
            group_id=pool_group(pool_id),
            partition_assignment_strategy=[StickyPartitionAssignor],
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            rebalance_timeout_ms=15_000,
            max_poll_interval_ms=round(max_poll_interval_s * 1000),
        )

    @property
    def in_flight(self) -> int:
        return len(self._evaluations)

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
        finishing = asyncio.create_task(self._finisher.run(), name="finisher")
        watching = asyncio.create_task(self._watch(), name="consumer-watchdog")
        taking = asyncio.create_task(self._take(), name="take-records")
        try:
            await asyncio.wait([finishing, watching, taking], return_when=asyncio.FIRST_COMPLETED)
            for task in (finishing, watching):
                if task.done():
                    task.result()
            await taking
            await self._finisher.drained()
        finally:
            for task in (finishing, watching, taking):
                task.cancel()
            await asyncio.gather(finishing, watching, taking, return_exceptions=True)

    def stop_taking(self) -> None:
        """From now on `run` finishes what it has and returns."""
        self._stopping = True
        self._lane_free.set()

    async def leave(self) -> None:
        await self._finisher.stop()
        with suppress(TimeoutError):  # one that is stuck must not keep the process from its end
            async with asyncio.timeout(LEAVE_PATIENCE_S):
                await self._consumer.stop()

    async def _take(self) -> None:
        failures = 0
        while not self._stopping or self._evaluations:
            if not self._takes_more():
                self._lane_free.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_MS / 1000):
                        await self._lane_free.wait()
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
            for partition, records in batches.items():
                for record in records:
                    self._dispatch(partition, record)

    def _takes_more(self) -> bool:
        return not self._stopping and self.in_flight < LANES_PER_REPLICA and self._finisher.backlog <= LONGEST_BACKLOG

    async def _poll(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        """At most one record for each free lane. Without one the poll names a partition that is not there.

        Who does not poll has to leave the group after a while (traps H8); who pauses throws away what is fetched ahead.
        """
        batches: dict[TopicPartition, list[ConsumerRecord]]
        if self._takes_more():
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=LANES_PER_REPLICA - self.in_flight)
        else:
            batches = await self._consumer.getmany(TopicPartition(self._topic, NO_PARTITION))
        return batches

    def _dispatch(self, partition: TopicPartition, record: ConsumerRecord) -> None:
        offsets = self._offsets.get(partition)
        if offsets is None or record.offset <= offsets.last_taken:  # newly assigned, perhaps after a position further on
            offsets = self._offsets[partition] = PartitionOffsets()
            self._unseen_from[partition] = self._consumer.highwater(partition) or 0
        offsets.take(record.offset)
        source = (partition.topic, partition.partition, record.offset)
        may_be_repeat = record.offset < self._unseen_from.get(partition, 0)
        mine = offsets

        def settled() -> None:
            mine.finish(record.offset)

        task = asyncio.create_task(self._answer(record, source, settled, may_be_repeat), name=f"score-{source}")
        self._evaluations.add(task)
        task.add_done_callback(self._lane_done)

    def _lane_done(self, task: "asyncio.Task[None]") -> None:
        self._evaluations.discard(task)
        self._lane_free.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("a request could not be finished", exc_info=task.exception())

    async def _answer(self, record: ConsumerRecord, source: tuple[str, int, int], settled: Callable[[], None], may_be_repeat: bool) -> None:
        try:
            request = parse_request(record.headers, record.value)
        except EnvelopeInvalid as error:
            log.error("record is no request, moved to the dead letters", extra={"offset": source[2], "error": error.message})
            invalid = dead_letter(source, record.headers, record.value, error.message, 0)
            self._finisher.put(Answered(source, settled, dead_letter=invalid))
            return
        evaluation = asyncio.create_task(self._evaluate_one(request, may_be_repeat), name=f"evaluate-{request.request_id}")
        await asyncio.wait([evaluation], timeout=max(0.0, request.deadline_ms / 1000 - time.time()))
        if not evaluation.done():
            self._finisher.put(Answered(source, settled, request, EXPIRED))
            await asyncio.wait([evaluation])  # the answer is late, the lane is still taken
            return
        try:
            answer, crashes = evaluation.result()
            failure = "the model process crashed while scoring" if answer is CRASHED else ""
        except Exception as error:
            log.exception("request failed in the host", extra={"request_id": request.request_id})
            answer, crashes, failure = FAILED_HERE, 0, repr(error)
        letter = dead_letter(source, record.headers, record.value, failure, crashes) if failure else None
        self._finisher.put(Answered(source, settled, request, answer, letter))

    async def _evaluate_one(self, request: ScoringRequest, may_be_repeat: bool) -> tuple[Answer, int]:
        if is_expired(request, now_ms()):
            return EXPIRED, 0
        if request.request_id in self._cancelled:
            return CANCELLED, 0
        crashes = await self._attempts.read(request.request_id) if may_be_repeat else 0
        self._queued.record(max(0.0, time.time() - request.accepted_at_ms / 1000), {"endpoint": request.endpoint})
        with span("score", request.traceparent, endpoint=request.endpoint, entity=request.entity, request_id=request.request_id):
            answer, crashes = await self._evaluate(request, crashes)
        if answer.duration_s > 0:
            self._evaluated.record(answer.duration_s, {"endpoint": request.endpoint, "entity": request.entity})
            last = self.evaluation_s
            self.evaluation_s = answer.duration_s if last is None else last + AVERAGE_WEIGHT * (answer.duration_s - last)
        return answer, crashes

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Finish what is being scored, for a few seconds at most, and commit; what is later is scored again elsewhere."""
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
