"""Who waits for which answer: request id → waiting future, and what is in flight where."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

from starlette.requests import ClientDisconnect

from services.ingress.traffic import PartitionTraffic
from services.shared.clock import now_ms
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import DeadlineExceeded

HOST_GRACE_MS = 2_000  # R2: only the host declares expiry; the ingress waits this much longer for it
EXPIRE_EVERY_S = 0.25


@dataclass(eq=False, slots=True)
class Waiting:
    """A request on its way, as long as the block lasts that enters it.

    `routed_at` is the control offset of the snapshot it was routed by (R10).
    """

    replies: "Replies"
    request: ScoringRequest
    pool_id: str
    partition: int
    traffic: PartitionTraffic
    routed_at: int
    reply: asyncio.Future[ScoringReply]
    open_produces: int = 0  # records of it that may still be appended
    is_acknowledged: bool = False  # one of them is in the log
    _closed: asyncio.Future[None] | None = None
    _accepted: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.replies.forget(self)

    def hang_up(self) -> None:
        """Nobody waits any more: whoever awaits the reply gets ClientDisconnect, and no copy is produced."""
        if not self.reply.done():
            self.reply.set_exception(ClientDisconnect())

    def produce_ended(self) -> None:
        self.open_produces -= 1
        if not self.open_produces and self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def acknowledge(self) -> None:
        self.is_acknowledged = True
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)

    async def accepted(self) -> None:
        """Returns once Kafka has acknowledged a record of it, or `reply` is done: with what came of it, or why it was not accepted (R1)."""
        if not self.is_acknowledged:
            self._accepted = asyncio.get_running_loop().create_future()
            either: list[asyncio.Future[Any]] = [self._accepted, self.reply]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    async def produced(self) -> None:
        """Returns when no record of it is under way any more."""
        if self.open_produces:
            self._closed = asyncio.get_running_loop().create_future()
            await self._closed


class Replies:
    """The requests of this process that have no answer yet. The first answer wins; later ones, and strangers', are dropped."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._abandoned: set[Waiting] = set()
        self._traffic: dict[str, dict[int, PartitionTraffic]] = defaultdict(lambda: defaultdict(PartitionTraffic))
        self._turn = 0
        self._by_pool: dict[str, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self._waiting)

    def expected(self, request: ScoringRequest, pool_id: str, partition: int, routed_at: int) -> Waiting:
        """From now on the answer of `request` is waited for, until the block ends that enters what this returns."""
        traffic = self._traffic[pool_id][partition]
        waiting = Waiting(self, request, pool_id, partition, traffic, routed_at, asyncio.get_running_loop().create_future())
        self._waiting[request.request_id] = waiting
        self._turn += 1
        traffic.turn = self._turn
        traffic.in_flight += 1
        self._by_pool[pool_id] += 1
        return waiting

    def forget(self, waiting: Waiting) -> None:
        self._free_place(waiting)
        self._abandoned.discard(waiting)

    def abandon(self, waiting: Waiting) -> None:
        """Its caller hung up: its place is free at once, but while the block lasts its record may still be appended (R10)."""
        self._abandoned.add(waiting)
        self._free_place(waiting)

    def settle(self, reply: ScoringReply, replica: str) -> None:
        """`replica`: who answers, and so owns the partition the request lies in."""
        waiting = self._waiting.get(reply.request_id)
        if waiting is not None and not waiting.reply.done():
            waiting.traffic.replica = replica
            waiting.reply.set_result(reply)

    def expire(self, at_ms: int) -> None:
        """Fail with DeadlineExceeded what has no answer although its host had its time; `at_ms` is epoch ms."""
        for waiting in self.unanswered():
            if waiting.request.deadline_ms + HOST_GRACE_MS <= at_ms:
                late = DeadlineExceeded("No answer came before the deadline; whether the model was evaluated is not known.")
                waiting.reply.set_exception(late)

    async def run_expiry(self) -> None:
        """Runs until cancelled. One look at all that waits, never later than the promised moment, is cheaper than a timer each."""
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            self.expire(now_ms() + int(EXPIRE_EVERY_S * 1000))

    def unanswered(self) -> list[Waiting]:
        return [w for w in self._waiting.values() if not w.reply.done()]

    def in_flight(self, pool_id: str) -> int:
        return self._by_pool.get(pool_id, 0)

    def in_flight_by_pool(self) -> dict[str, int]:
        return dict(self._by_pool)

    def traffic(self, pool_id: str) -> Mapping[int, PartitionTraffic]:
        """By partition; of one without any so far too."""
        return self._traffic[pool_id]

    def forget_pools(self, live: set[str]) -> None:
        for pool_id in self._traffic.keys() - live:
            del self._traffic[pool_id]

    def routed_from(self, next_offset: int) -> int:
        """The oldest snapshot a request of this process is still routed by; `next_offset` when nothing waits."""
        return min((w.routed_at for w in chain(self._waiting.values(), self._abandoned)), default=next_offset)

    def _free_place(self, waiting: Waiting) -> None:
        if self._waiting.pop(waiting.request.request_id, None) is None:
            return
        waiting.traffic.in_flight -= 1
        self._by_pool[waiting.pool_id] -= 1
        if not self._by_pool[waiting.pool_id]:
            del self._by_pool[waiting.pool_id]
