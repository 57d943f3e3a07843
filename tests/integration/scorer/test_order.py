"""What waited in several partitions, as after a wake: who came first is scored first."""

import asyncio
from collections.abc import Sequence

import pytest

from services.scorer.answers import Answer
from services.scorer.attempts import Attempts
from services.scorer.host import Host
from services.scorer.jobs import Job
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.topics import online_queue
from tests.integration.scorer.bench import PARTITIONS, Bench
from tests.integration.scorer.test_leaving import running


class OneByOne:
    """The lanes of a model that scores one by one, in a moment each."""

    capacity = LANES_PER_REPLICA

    def __init__(self) -> None:
        self.freed = asyncio.Event()
        self.in_flight = 0
        self.scored: list[str] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.in_flight += 1
            self.scored.append(job.request.request_id)
            asyncio.get_running_loop().call_later(0.005, self._done, job)

    def _done(self, job: Job) -> None:
        self.in_flight -= 1
        job.answer(Answer(200, "application/json", b"{}", duration_s=0.005))
        self.freed.set()


async def test_a_backlog_of_several_partitions_is_scored_oldest_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of one partition once went before the first of the next."""
    monkeypatch.setattr("services.scorer.host.POLL_MS", 2)  # shorter than an evaluation: it polls for nothing, too
    requests = [await bench.send(n, n % PARTITIONS) for n in range(20 * PARTITIONS)]
    lanes = OneByOne()
    async with running(Host(bench.pool_id, "host", online_queue(bench.pool_id), bench.kafka, bench.redis, Attempts(bench.redis), lanes)):
        await bench.answers(*requests)
    places = {request_id: place for place, request_id in enumerate(lanes.scored)}
    assert len(places) == len(requests)
    # The first poll sees no backlog yet, and takes what room there is from one partition.
    assert max(abs(places[request.request_id] - n) for n, request in enumerate(requests)) <= LANES_PER_REPLICA * PARTITIONS
