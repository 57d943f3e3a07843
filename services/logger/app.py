"""The Faust app: takes outcome records, has them written, acknowledges them. Thin: what is logged is decided in table.py."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any

import faust
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.logger.dead_letters import DeadLetters
from services.logger.progress import HoleInRecords, settle
from services.logger.settings import LoggerServiceSettings
from services.logger.table_faults import TableFaults
from services.logger.transport import PatientTransport
from services.logger.writer import Record, Writer
from services.shared.health import health_served
from services.shared.kafka_clients import new_consumer
from services.shared.process import end_on_doubt
from services.shared.readiness import tell_ready
from services.shared.redis_clients import new_redis
from services.shared.topics import LOGGER_GROUP, MAX_RECORD_BYTES, OUTCOMES, ensure_topics

NICENESS = 10  # rows may wait, callers may not
SESSION_S = 10.0
CHECK_S = 5.0

log = logging.getLogger(__name__)


class Logger:
    """Reads `penstock.outcomes` in the group `penstock.logger`.

    The one invariant: a record is acknowledged only when it and every record before it in its partition is logged. Then
    whatever Faust commits, holes included (traps C4), loses nothing, and what it forgets to commit is found in the tables'
    own `txn`. On any doubt the process ends without acknowledging.
    """

    def __init__(self, settings: LoggerServiceSettings) -> None:
        self._settings = settings
        self._dead_letters = DeadLetters(settings.kafka)
        self._faults = TableFaults(new_redis(settings.redis))
        self._writer = Writer(settings.tables_place, settings.logger, self._dead_letters, self._faults, settings.logger_folder)
        self._positions = new_consumer(settings.kafka, group_id=LOGGER_GROUP)  # asks for offsets; joins nothing
        self._next_offsets: dict[int, int] = {}
        self._owned: set[int] | None = None  # None: the group has not told us yet
        self._flushing = asyncio.Lock()
        self._flushed = asyncio.Event()
        self._moved_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Log until `stop` is set, then log what is there already, commit and leave."""
        os.nice(NICENESS)
        self._settings.logger_folder.mkdir(parents=True, exist_ok=True)
        await ensure_topics(self._settings.kafka)
        await self._positions.start()
        app = self._new_app()
        await app.start()
        ended = asyncio.create_task(app.wait_until_stopped(), name="faust-ended")
        watchdog = asyncio.create_task(self._watch(), name="logger-watchdog")
        stopping = asyncio.create_task(stop.wait(), name="stop-asked")
        await asyncio.wait({ended, watchdog, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            end_on_doubt("the Faust app or the watchdog ended by itself")
        watchdog.cancel()
        await self._drain()
        async with self._flushing:  # no flush is cut short, and none begins any more
            app.conf.stream_wait_empty = False  # what was taken since, Faust would have flushed first: that would wait for us
            await app.stop()
        ended.cancel()
        await self._dead_letters.stop()
        await self._faults.stop()
        await self._positions.stop()

    async def why_not_ready(self) -> str:
        return "No outcome partitions are assigned." if self._owned is None else self._writer.trouble

    def _new_app(self) -> faust.App:
        app = new_faust_app(self._settings)
        topic = app.topic(OUTCOMES, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")

        @app.agent(topic, name="log-outcomes", concurrency=1)  # type: ignore[untyped-decorator]
        async def log_outcomes(stream: Any) -> None:
            options = self._settings.logger
            async for events in stream.noack().noack_take(options.flush_records, within=options.flush_s):
                await self._flush(events)

        async def assigned(_: faust.App, partitions: Iterable[Any], **__: Any) -> None:
            self._owned = {tp.partition for tp in partitions if tp.topic == OUTCOMES}
            self._moved_at = time.monotonic()
            log.info("outcome partitions were assigned", extra={"partitions": sorted(self._owned)})
            tell_ready()

        async def revoked(_: faust.App, __: Iterable[Any], **___: Any) -> None:
            self._owned = None
            self._moved_at = time.monotonic()

        app.on_partitions_assigned.connect(assigned, weak=False)
        app.on_partitions_revoked.connect(revoked, weak=False)
        return app

    async def _flush(self, events: Sequence[Any]) -> None:
        """Write, then acknowledge in order. Never raises: Faust would acknowledge what an exception left behind (traps C5)."""
        try:
            async with self._flushing:
                messages = [event.message for event in events]
                settled = await self._settled([(m.tp.partition, m.offset) for m in messages])
                await self._writer.write([Record(m.tp.partition, m.offset, m.value or b"", list(m.headers or ())) for m in messages])
                self._next_offsets = settled
                self._moved_at = time.monotonic()
                self._flushed.set()
                for event in events:
                    event.ack()
        except Exception:
            log.exception("flush failed")
            end_on_doubt("a flush failed")

    async def _settled(self, positions: Sequence[tuple[int, int]]) -> dict[int, int]:
        """Where each partition will stand after this flush. Raises HoleInRecords.

        What another logger did while it owned a partition shows in the group offset alone, so before a hole is believed the
        group is asked.
        """
        partitions = {partition for partition, _ in positions}
        try:
            if partitions <= self._next_offsets.keys():
                return settle(self._next_offsets, positions)
        except HoleInRecords:
            log.info("partition moved on elsewhere, asking the group where it stands")
        return settle(self._next_offsets | await self._ask_group(partitions), positions)

    async def _ask_group(self, partitions: set[int]) -> dict[int, int]:
        asked = [TopicPartition(OUTCOMES, partition) for partition in partitions]
        first = await self._positions.beginning_offsets(asked)
        committed = {tp: await self._positions.committed(tp) for tp in asked}
        return {tp.partition: max(self._next_offsets.get(tp.partition, 0), committed[tp] or 0, first[tp]) for tp in asked}

    async def _waiting(self) -> dict[int, int]:
        """Owned partitions with records that are not logged yet → the end offset they have now."""
        owned = self._owned or set()
        ends = await self._positions.end_offsets([TopicPartition(OUTCOMES, partition) for partition in owned])
        logged = self._next_offsets | await self._ask_group(owned - self._next_offsets.keys())
        return {tp.partition: end for tp, end in ends.items() if logged[tp.partition] < end}

    async def _drain(self) -> None:
        """Go on until what was produced before the stop is logged."""
        try:
            async with asyncio.timeout(self._settings.logger.drain_s):
                waiting = await self._waiting()
                while any(self._next_offsets.get(partition, 0) < end for partition, end in waiting.items()):
                    self._flushed.clear()
                    await self._flushed.wait()
        except (TimeoutError, KafkaError):
            log.warning("stopped with records left, the next logger takes them")

    async def _watch(self) -> None:
        """Returns when records wait, or no assignment comes, and nothing has moved for `stall_s` (traps C3, C6)."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                idle = self._owned is not None and not await self._waiting()
            except KafkaError:
                idle = True  # without a broker nothing can move; that is no stall
            if idle or self._flushing.locked():  # a flush that waits for disk space says so itself
                self._moved_at = time.monotonic()
            if time.monotonic() - self._moved_at > self._settings.logger.stall_s:
                log.error("records wait and nothing moves")
                return


def new_faust_app(settings: LoggerServiceSettings) -> faust.App:
    """Consumes, and touches nothing else: no web server, no topics of its own, no tables, no logging set-up."""
    for name in ("faust", "mode", PatientTransport.__module__):  # they write a line at INFO for each step of a start and a stop
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log.level)))
    app = faust.App(
        LOGGER_GROUP,
        broker=[f"aiokafka://{server}" for server in settings.kafka.bootstrap.split(",")],
        processing_guarantee="at_least_once",
        store="memory://",
        datadir=settings.logger_folder,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        consumer_group_instance_id=settings.logger.instance,
        broker_session_timeout=SESSION_S,
        broker_rebalance_timeout=SESSION_S,
        broker_heartbeat_interval=SESSION_S / 5,
        broker_request_timeout=3 * SESSION_S,
        broker_commit_interval=1.0,
        stream_buffer_maxsize=settings.logger.flush_records,
    )
    app.transport = PatientTransport(app.conf.broker_consumer, app)
    return app


async def serve(settings: LoggerServiceSettings) -> None:
    """Log until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logger = Logger(settings)
    async with health_served(logger.why_not_ready):
        await logger.run(stop)
