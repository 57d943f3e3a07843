"""Has all rows of a batch scored: cuts them into items as large as they may be, sends those, and settles what comes back.

What was cut and settled lies in the batch's folder before anybody acts on it, so that whoever takes over goes on from there.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingress.batch_folder import BatchOrder, Progress, leave_progress
from services.ingress.destinations import Destination, Destinations, NotServing
from services.ingress.rate_limiter import RateLimiter
from services.ingress.sampling import is_logged
from services.ingress.submissions.bulk_producer import BulkProducer, PoolRetired
from services.ingress.submissions.conclusion import SETTLED
from services.ingress.submissions.cuts import CUTS, Cut, CutLog, Rows, lost_of, parts_of, read_cuts
from services.ingress.submissions.items import Item, ItemReader
from services.ingress.submissions.ledger import Ledger, restored
from services.ingress.submissions.pace import Ahead, Foresight, Pace
from services.ingress.submissions.pools import Pools
from services.ingress.submissions.preparation import ROWS
from services.ingress.submissions.row_file import Body, RowFile
from services.ingress.submissions.settled import Settled, SettledLog, read_settled
from services.ingress.submissions.verdicts import OK, Verdict, judge
from services.shared.batches import Batch
from services.shared.cancelled import publish_cancelled
from services.shared.clock import now_ms
from services.shared.endpoints import Endpoint, Token, served_entity_id
from services.shared.envelope import ScoringRequest
from services.shared.errors import EndpointNotFound, PoolNotReady, RateLimited
from services.shared.event_log import EventLog
from services.shared.results import ScoringResult
from services.shared.topics import BATCH_RESULTS

MOST_AT_ONCE = 32  # items that are cut, stored and sent together
LOOK_S = 0.5  # between two looks at what nobody tells: room, routes, limits
TELL_S = 1.0
NOTHING_ASKED = b'{"predictions": []}'

TOO_LARGE = b'{"error_code": "BAD_REQUEST", "message": "The row is larger than a request to the model may be.", "details": []}'
BAD_REQUEST = 400

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What all batches share."""

    events: EventLog
    producer: BulkProducer
    pools: Pools
    limiter: RateLimiter
    redis: Redis
    patience_ms: int  # from an item's cut to its deadline
    max_body_bytes: int


class Scoring:
    """`take` is called for each result as it is read, `keep` before its offset is committed, `run` by who wants it done."""

    def __init__(self, batch: Batch, order: BatchOrder, folder: Path, means: Means) -> None:
        """Goes on where an earlier process ended. The rows are prepared; files are read, so this belongs in a thread."""
        self._batch = batch
        self._order = order
        self._owner = Token("", batch.owner, batch.owner_kind)
        self._folder = folder
        self._means = means
        rows = RowFile(folder / ROWS)
        self._items = ItemReader(rows, order.params)
        self._cuts, self._settled = CutLog(folder / CUTS), SettledLog(folder / SETTLED)
        words = [(word.first, word.status) for word in read_settled(folder / SETTLED)]
        cuts = read_cuts(folder / CUTS)
        self._ledger: Ledger = restored(batch.batch_id, rows.rows, cuts, words)
        self._held: dict[str, Cut] = {}  # perhaps sent by an earlier process, to pools that take nothing any more
        self._again = lost_of(cuts)
        self._destinations = Destinations()
        self._pace, self._ahead, self._foresight = Pace(), Ahead(), Foresight()
        self._news = asyncio.Event()
        self._told_at = float("-inf")
        self._fault: OSError | None = None

    async def run(self, read_to_end: Callable[[], Awaitable[None]]) -> None:
        """Returns when every row has its last word. Raises EndpointNotFound, or OSError when the folder cannot be written.

        Comes when every result there was has been taken; `read_to_end` returns when those there are now have been.
        """
        await self._send_again()
        while not self._ledger.is_complete:
            self._news.clear()
            await self._release(read_to_end)
            cut_some = await self._cut_some()
            await self._tell()
            if self._fault is not None:
                raise self._fault
            if not cut_some:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()
        await asyncio.to_thread(self._settled.sync)

    def take(self, result: ScoringResult) -> None:
        """The first for an item counts. What an earlier process had sent, and is answered now, need not be sent again."""
        cut = self._ledger.open.get(result.request_id)
        if cut is None:
            return
        is_late = now_ms() >= cut.at_ms + self._means.patience_ms
        verdict = judge(result.status, result.body, cut.count, cut.scored, is_late=is_late)
        if verdict is Verdict.SETTLED:
            self._settle(result.request_id, result.status, result.body, result.served_entity)
        else:
            self._cut_again(result.request_id, apart=verdict is Verdict.APART)
        self._pace = self._pace.after(cut.scored, result.execution_ms) if result.status == OK else self._pace.after_failure()
        self._ahead.answered(time.monotonic())
        self._news.set()

    def keep(self) -> None:
        """Returns when the disk has all that was settled."""
        try:
            self._settled.sync()
        except OSError as error:
            self._fault = error

    async def give_up(self) -> None:
        """What no replica has begun is not scored any more, as far as they hear of it."""
        deadlines: dict[str, dict[str, int]] = {}
        for request_id, cut in self._ledger.open.items():
            deadlines.setdefault(cut.pool_id, {})[request_id] = cut.at_ms + self._means.patience_ms
        if deadlines:
            try:
                await publish_cancelled(self._means.redis, deadlines)
            except (RedisError, OSError) as error:
                log.warning("items of a batch cannot be cancelled: they are scored", extra={"error": repr(error)})

    def close(self) -> None:
        with suppress(OSError):  # there was no room for the last of it, as was said
            self._cuts.close()
            self._settled.close()

    def _settle(self, request_id: str, status: int, body: bytes, served_entity: str) -> None:
        cut = self._ledger.close(request_id)
        try:
            self._settled.append(Settled(cut.first, cut.count, status, body, served_entity))
        except OSError as error:
            self._fault = error
        self._ledger.settle(cut, status)

    def _cut_again(self, request_id: str, *, apart: bool) -> None:
        cut = self._ledger.close(request_id)
        parts = parts_of(cut.first, cut.count) if apart else [(cut.first, cut.count)]
        self._again.extend(Rows(first, count, cut.round + 1) for first, count in parts)

    async def _send_again(self) -> None:
        """What an earlier process cut and is not answered: under its own id, so that it is one request however often it arrives."""
        for request_id, cut in list(self._ledger.open.items()):
            body = await asyncio.to_thread(self._items.body, cut.first, cut.count)
            try:
                await self._means.producer.send(cut.pool_id, self._request(request_id, cut, body))
            except PoolRetired:
                self._held[request_id] = cut

    async def _release(self, read_to_end: Callable[[], Awaitable[None]]) -> None:
        """A pool goes when nothing is left in it: what is not answered then never came there, and is cut anew."""
        pools = self._means.events.snapshot().pools
        gone = [request_id for request_id, cut in self._held.items() if cut.pool_id not in pools]
        if gone:
            await read_to_end()
        for request_id in gone:
            del self._held[request_id]
            if request_id in self._ledger.open:
                self._cut_again(request_id, apart=False)

    async def _cut_some(self) -> bool:
        """Whether there was anything to cut, and room and leave to send it."""
        most_open = self._ahead.most_open(time.monotonic(), self._pace.evaluation_ms)
        room = min(MOST_AT_ONCE, self._means.pools.room_of(self._endpoint()), most_open - len(self._ledger.open))
        rows = self._pace.rows_of_next
        items = await asyncio.to_thread(self._items.read, self._again[: max(0, room)], self._ledger.next_row, rows, room)
        cuts = self._routed(items)
        if not cuts:
            return False
        await asyncio.to_thread(self._cuts.append, cuts)
        del self._again[: sum(cut.round > 0 for cut in cuts)]
        sent = []
        for request_id, cut, item in zip(self._ledger.add(cuts), cuts, items, strict=False):
            if not cut.scored:
                self._settle(request_id, OK, NOTHING_ASKED, "")
            elif len(item.body.content) > self._means.max_body_bytes:
                self._settle(request_id, BAD_REQUEST, TOO_LARGE, "")
            else:
                try:
                    sent.append(self._means.producer.hand_over(cut.pool_id, self._request(request_id, cut, item.body)))
                except PoolRetired:
                    self._cut_again(request_id, apart=False)
        await asyncio.gather(*map(asyncio.shield, sent))
        return True

    def _endpoint(self) -> Endpoint:
        endpoint = self._means.events.snapshot().endpoint_by_id(self._batch.endpoint_id)
        if endpoint is None:
            raise EndpointNotFound(self._batch.endpoint_id)
        return endpoint

    def _routed(self, items: Sequence[Item]) -> list[Cut]:
        """As many of them as may be sent now. Raises EndpointNotFound."""
        cuts = []
        with suppress(PoolNotReady, NotServing, RateLimited):
            for item in items:
                rows, to = item.rows, self._route()
                place = (to.pool_id, to.entity, to.table, to.legacy_model, to.sampling_fraction)
                cuts.append(Cut(rows.first, rows.count, item.scored, rows.round, now_ms(), *place))
        return cuts

    def _route(self) -> Destination:
        """Counts against the endpoint's own limits. Raises EndpointNotFound, PoolNotReady, NotServing, RateLimited."""
        to = self._destinations.choose(self._means.events.snapshot(), self._endpoint().name, None, random.random())
        self._means.limiter.spend_own(to, self._owner)
        return to

    def _request(self, request_id: str, cut: Cut, body: Body) -> ScoringRequest:
        return ScoringRequest(
            request_id=request_id,
            endpoint_id=self._batch.endpoint_id,
            endpoint=self._order.endpoint,
            entity=cut.entity,
            served_entity_id=served_entity_id(cut.pool_id),
            requester=self._batch.owner,
            accepted_at_ms=cut.at_ms,
            deadline_ms=cut.at_ms + self._means.patience_ms,
            reply_to="",
            table=cut.table if is_logged(request_id, cut.sampling_fraction) else "",
            content_type=body.content_type,
            traceparent="",
            attempt=1,
            body=body.content,
            results_to=BATCH_RESULTS,
            legacy_model=cut.legacy_model,
            submission=self._batch.batch_id,
            sampling_fraction=cut.sampling_fraction,
        )

    async def _tell(self) -> None:
        if time.monotonic() - self._told_at < TELL_S:
            return
        self._told_at = time.monotonic()
        ledger = self._ledger
        end_ms = self._foresight.estimated_end_ms(now_ms(), ledger.rows, ledger.settled)
        progress = Progress(ledger.rows, ledger.succeeded, ledger.failed, end_ms)
        await asyncio.to_thread(leave_progress, self._folder, progress)
