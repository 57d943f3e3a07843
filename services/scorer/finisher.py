"""The end of every request: outcome, reply, both acknowledged, then its offset may be committed (R3)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.scorer.answers import CANCELLED, Answer, final_reply
from services.scorer.model_worker.frames import client_request_id_of
from services.scorer.replies import pack_by_stream, send_replies
from services.shared import clock
from services.shared.envelope import Outcome, ScoringReply, ScoringRequest, pack_outcomes, to_outcome
from services.shared.results import result_record
from services.shared.safe_producer import Record, SafeProducer
from services.shared.settings import KafkaSettings
from services.shared.topics import DEAD_LETTERS, OUTCOMES, outcome_partition

ERROR_CHARS = 500  # enough to name the cause; an error text may quote what it did not like
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
COMMIT_PAUSE_S = 0.05  # what a killed host scored in it is scored again
QUICK_BYTES = 16 * 1024  # parsed in less time than a thread takes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A record with its answer. `settled` marks its offset; a record that is no request has no answer, only a dead letter."""

    settled: Callable[[], None]
    request: ScoringRequest | None = None
    answer: Answer | None = None
    dead_letter: Record | None = None


def dead_letter(record: ConsumerRecord, error: str, attempts: int) -> Record:
    """The original bytes and headers, with what is wrong, how often it was tried and where it came from."""
    source = f"{record.topic}/{record.partition}/{record.offset}"
    marks = {"error": error[:ERROR_CHARS], "attempts": str(attempts), "source": source}
    headers = [*record.headers, *((f"penstock-{k}", v.encode(errors="replace")) for k, v in marks.items())]
    return Record(DEAD_LETTERS, 0, record.value, headers)


class Finisher:
    """Takes all that waits, settles it in one round, then takes what came meanwhile: rounds grow with the load.

    Offsets are committed beside the rounds, for as many of them as there were.
    """

    def __init__(self, pool_id: str, replica_id: str, kafka: KafkaSettings, redis: Redis, commit: Callable[[], Awaitable[None]]) -> None:
        self._replica_id = replica_id
        self._outcome_partition = outcome_partition(pool_id, kafka.outcome_partitions)
        self._producer = SafeProducer(kafka)
        self._redis = redis
        self._commit = commit
        self._waiting: list[Answered] = []
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def put(self, answered: Answered) -> None:
        self._waiting.append(answered)
        self._idle.clear()
        self._some.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_rounds(), name="settle-answers")
            tasks.create_task(self._commit_rounds(), name="commit-offsets")

    async def drained(self) -> None:
        """Returns when all is settled; the last of it may not be committed."""
        await self._idle.wait()

    async def stop(self) -> None:
        await self._producer.stop()

    async def _settle_rounds(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._waiting = self._waiting, []
            await self._settle(batch)
            self._settled.set()
            if not self._waiting:
                self._idle.set()

    async def _commit_rounds(self) -> None:
        while True:
            await self._settled.wait()
            self._settled.clear()
            await self._commit()
            await asyncio.sleep(COMMIT_PAUSE_S)

    async def _settle(self, batch: Sequence[Answered]) -> None:
        client_ids = [await _client_request_id(item) for item in batch]
        at_ms = clock.now_ms()  # the one look at the clock that decides reply and row alike
        replies: list[tuple[str, ScoringReply]] = []
        outcomes: list[Outcome] = []
        records = [item.dead_letter for item in batch if item.dead_letter is not None]
        for item, client_request_id in zip(batch, client_ids, strict=True):
            if item.request is None or item.answer is None:
                continue
            reply = final_reply(item.request, item.answer, at_ms)
            if item.request.reply_to and item.answer is not CANCELLED:  # nobody is there to read it
                replies.extend((stream, reply) for stream in item.request.reply_to.split())
            duration_ms = round(item.answer.duration_s * 1000)
            if item.request.results_to:
                share_ms = round(item.answer.duration_s / item.answer.together * 1000)
                records.append(result_record(item.request, reply, share_ms, at_ms))
            if item.request.table:
                outcomes.append(to_outcome(item.request, reply, client_request_id, duration_ms))
        records.extend(Record(OUTCOMES, self._outcome_partition, pack) for pack in pack_outcomes(outcomes))
        sent = await self._producer.begin(records)
        await asyncio.gather(self._producer.finish(records, sent), self._reply(replies))
        for item in batch:
            item.settled()

    async def _reply(self, replies: list[tuple[str, ScoringReply]]) -> None:
        entries, pause_s = pack_by_stream(replies), FIRST_PAUSE_S
        while True:
            try:
                await send_replies(self._redis, entries, self._replica_id)
                return
            except (RedisError, OSError) as error:
                log.warning("replies cannot be sent, trying again", extra={"error": repr(error)})
                await asyncio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


async def _client_request_id(item: Answered) -> str | None:
    """For a row no worker parsed the host looks itself, off the event loop where that takes long (R15)."""
    if item.answer is None or item.answer.parsed or item.request is None or not item.request.table:
        return item.answer.client_request_id if item.answer else None
    body = item.request.body
    found: str | None = await asyncio.to_thread(client_request_id_of, body) if len(body) > QUICK_BYTES else client_request_id_of(body)
    return found
