"""Tails the control log: read to its end before anything is served, snapshots, read-your-own-writes."""

import asyncio
import logging
import time
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from services.shared.control_events import ControlEvent, decode_event, encode_event
from services.shared.endpoints import ControlState, apply_event
from services.shared.errors import DependencyLost, ServingError
from services.shared.kafka_clients import new_consumer, started_producer
from services.shared.process import vital
from services.shared.settings import KafkaSettings
from services.shared.topics import CONTROL

CONFIRM_EVERY_S = 1.0
UNCONFIRMED_LIMIT_S = 5.0  # R9
CONFIRM_PATIENCE_S = 5.0
PATIENCE_S = 30.0  # how long a write or a refresh waits for the log before it is DependencyLost

log = logging.getLogger(__name__)
PARTITION = TopicPartition(CONTROL, 0)


class EventLog:
    """One process's view of `penstock.control`.

    `start` returns when the log was read to the end it had then. `snapshot` never blocks. `publish` and `refresh` raise
    DependencyLost when Kafka does not answer; whether a published event arrived is then unknown, and the same event object
    may be published again: a repeat gets the first verdict.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._state = ControlState()
        self._folded = asyncio.Condition()
        self._consumer: AIOKafkaConsumer | None = None
        self._asker: AIOKafkaConsumer | None = None  # for the log's end alone: behind the tail's long poll it would wait 0.5 s
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._confirmed_at = float("-inf")

    async def start(self) -> None:
        self._consumer, self._asker = new_consumer(self._settings), new_consumer(self._settings)
        await asyncio.gather(self._consumer.start(), self._asker.start())
        self._consumer.assign([PARTITION])
        await self._consumer.seek_to_beginning(PARTITION)
        self._tasks = [
            vital(self._tail(), "control-log-tail"),
            vital(self._confirm(), "control-log-confirm"),
        ]
        await self.refresh()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._producer:
            await self._producer.stop()
        for consumer in (self._asker, self._consumer):
            if consumer:
                await consumer.stop()

    def snapshot(self) -> ControlState:
        return self._state

    def confirmed_age_s(self) -> float:
        """Seconds since this view was known to be the log's end."""
        return time.monotonic() - self._confirmed_at

    def is_confirmed(self) -> bool:
        """False: this view is too old to serve by (R9)."""
        return self.confirmed_age_s() <= UNCONFIRMED_LIMIT_S

    async def publish(self, event: ControlEvent) -> ControlState:
        """Append an event, wait until this process has folded it, and return the snapshot.

        Raises the RequestRejected the fold refused it with.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                producer = await self._ready_producer()
                sent = await producer.send_and_wait(CONTROL, encode_event(event), partition=0)
                state = await self.wait_for(sent.offset + 1)
        except (KafkaError, TimeoutError) as error:
            self._drop_producer()
            raise DependencyLost("The control log did not answer in time; the change may or may not have been made.") from error
        if event.event_id not in state.verdicts:
            raise ServingError("The control log holds a record of this change that it cannot read back.")
        verdict = state.verdicts[event.event_id]
        if verdict is not None:
            raise verdict.with_traceback(None)
        return state

    async def refresh(self) -> ControlState:
        """Fold to the log's end as it is now (R9: management reads)."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._read_to_end()
        except (KafkaError, TimeoutError) as error:
            raise DependencyLost("The control log did not answer in time.") from error

    async def wait_for(self, next_offset: int) -> ControlState:
        """Return the first snapshot made at or after `next_offset`."""
        async with self._folded:
            await self._folded.wait_for(lambda: self._state.next_offset >= next_offset)
            return self._state

    async def changed(self, since: int) -> ControlState:
        """Return the first snapshot made after offset `since`."""
        return await self.wait_for(since + 1)

    async def _tail(self) -> None:
        assert self._consumer is not None
        while True:
            try:
                batches = await self._consumer.getmany(PARTITION, timeout_ms=1_000)
            except KafkaError:
                log.warning("control log cannot be read, trying again", exc_info=True)
                await asyncio.sleep(1)
                continue
            state = self._state
            for record in batches.get(PARTITION, []):
                state = apply_event(state, record.offset, _decoded(record.value, record.offset))
            if state is not self._state:
                async with self._folded:
                    self._state = state
                    self._folded.notify_all()

    async def _confirm(self) -> None:
        """Once a second, make sure that this view is the log's end."""
        while True:
            try:
                async with asyncio.timeout(CONFIRM_PATIENCE_S):
                    await self._read_to_end()
            except (KafkaError, TimeoutError):
                log.warning("end of the control log cannot be confirmed", extra={"age_s": round(self.confirmed_age_s(), 1)})
            await asyncio.sleep(CONFIRM_EVERY_S)

    async def _read_to_end(self) -> ControlState:
        """Fold to the end the log has now; from then on the view is confirmed as of the moment of asking."""
        assert self._asker is not None, "start() comes first"
        asked_at = time.monotonic()
        end = (await self._asker.end_offsets([PARTITION]))[PARTITION]
        state = await self.wait_for(end)
        self._confirmed_at = max(self._confirmed_at, asked_at)
        return state

    async def _ready_producer(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await started_producer(self._settings)
            return self._producer

    def _drop_producer(self) -> None:
        """A producer that failed may be wedged for good (traps C1): the next publish makes a new one.

        Nobody waits for the old one to leave: as long as Kafka is away it does not, since it tries for ever to deliver.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            leaving = asyncio.create_task(_stop(producer), name="old-producer-leaves")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError):
        await producer.stop()


def _decoded(value: bytes | None, offset: int) -> ControlEvent | None:
    try:
        return decode_event(value or b"")
    except ValueError:
        log.error("record in the control log is no event of ours", extra={"offset": offset})
        return None
