"""Replicas of one pool that come, leave and die under steady load."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count, pairwise

from aiokafka.admin import AIOKafkaAdminClient

from services.shared.envelope import ScoringRequest
from services.shared.topics import online_queue
from tests.integration.scorer.bench import PARTITIONS, Bench

EVERY_S = 0.1


async def test_replicas_come_leave_and_die_under_load(bench: Bench) -> None:
    first, second = await bench.start(0), await bench.start(1)
    await bench.phase("ready", number=0)
    await bench.phase("ready", number=1)
    async with _load(bench) as sent, _commits(bench) as commits:
        await _answered(bench, sent, more=20)
        await bench.start(2)
        await bench.phase("ready", number=2)
        await _answered(bench, sent, more=20)
        first.send_signal(signal.SIGTERM)
        assert await first.wait() == 0
        await _answered(bench, sent, more=20)
        second.kill()
        await _answered(bench, sent, more=20)
    await bench.answers(*sent.values())
    await bench.lag_is_zero()
    for reply in await bench.replies():  # repeats too
        value = json.loads(sent[reply.request_id].body)["inputs"][0][0]
        assert (reply.status, json.loads(reply.body)) == (200, {"predictions": [2 * value]})
    assert {row.status for row in await bench.rows(*sent.values())} == {200}
    assert commits.keys() == set(range(PARTITIONS))
    assert not [(p, before, after) for p, seen in commits.items() for before, after in pairwise(seen) if after < before]


@asynccontextmanager
async def _load(bench: Bench) -> AsyncIterator[dict[str, ScoringRequest]]:
    """A request every while, each with a value of its own; yields what was sent, by id."""
    sent: dict[str, ScoringRequest] = {}

    async def send() -> None:
        for n in count():
            request = await bench.send(20 + n / 64, n % PARTITIONS)
            sent[request.request_id] = request
            await asyncio.sleep(EVERY_S)

    async with _beside(send):
        yield sent


@asynccontextmanager
async def _commits(bench: Bench) -> AsyncIterator[dict[int, list[int]]]:
    """What was seen to be committed, in order, by partition."""
    seen: dict[int, list[int]] = defaultdict(list)
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.kafka.bootstrap)
    await admin.start()

    async def look() -> None:
        while True:
            for partition, offset in (await admin.list_consumer_group_offsets(online_queue(bench.pool_id).group)).items():
                seen[partition.partition].append(offset.offset)
            await asyncio.sleep(EVERY_S)

    try:
        async with _beside(look):
            yield seen
    finally:
        await admin.close()


async def _answered(bench: Bench, sent: dict[str, ScoringRequest], more: int) -> None:
    """Return when `more` requests from now on, and all before them, are answered."""
    wanted = len(sent) + more
    while len(sent) < wanted:
        await asyncio.sleep(EVERY_S)
    await bench.answers(*sent.values())


@asynccontextmanager
async def _beside(work: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """`work` runs until the block ends; its failure is the block's."""
    task = asyncio.create_task(work(), name="beside")
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
