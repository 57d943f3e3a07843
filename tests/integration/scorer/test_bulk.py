"""Bulk work of a real replica: another process scores it, results go to Kafka, and online requests go first."""

import asyncio
import json
import os

import psutil

from services.shared.topics import bulk_queue
from tests.integration.scorer.bench import PATIENCE_S, Bench


async def test_bulk_work_has_its_own_process_its_results_in_kafka_and_its_rows(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    assert len(bench.workers()) == 1, "none without work"
    requests = [await bench.submit(value, partition) for partition, value in enumerate((1, -2, 3))]
    results = await bench.results(*requests)
    assert [(result.status, result.key) for result in results] == [(200, b"mine"), (400, b"mine"), (200, b"mine")]
    assert [json.loads(results[n].body) for n in (0, 2)] == [{"predictions": [2.0]}, {"predictions": [6.0]}]
    assert [row.status for row in await bench.rows(*requests)] == [200, 400, 200]
    assert await bench.replies() == [], "nobody waits at a stream"
    await bench.lag_is_zero(bulk_queue(bench.pool_id))
    online, bulk = bench.workers()
    assert [process.nice() for process in (online, bulk)] == [0, 19]
    assert os.sched_getscheduler(bulk.pid) == os.SCHED_IDLE
    async with asyncio.timeout(PATIENCE_S):
        while (await bench.phase("ready")).bulk_evaluation_s is None:
            await asyncio.sleep(0.05)


async def test_a_bulk_request_that_crashes_the_model_takes_no_online_one_along(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    slow = await bench.submit(3000)
    async with asyncio.timeout(PATIENCE_S):
        while len(bench.workers()) < 2:
            await asyncio.sleep(0.05)
    poison = await bench.submit(-1, 1)
    online = await bench.send(5)
    [answer] = await bench.answers(online)
    assert answer.status == 200
    worker = bench.worker()
    assert [result.status for result in await bench.results(slow, poison)] == [200, 500]
    assert poison.request_id in await bench.dead_letter_ids()
    assert psutil.pid_exists(worker.pid)
    assert bench.worker().pid == worker.pid, "the online worker is the same"
