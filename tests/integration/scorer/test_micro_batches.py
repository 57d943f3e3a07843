"""Requests that wait together are scored together, and none of them can tell."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import mlflow.pyfunc
import pandas
import pytest
from mlflow.models import infer_signature

from services.shared.envelope import ScoringRequest
from services.shared.settings import KafkaSettings, RedisSettings
from tests.integration.scorer.bench import PARTITIONS, PATIENCE_S, Bench, open_bench


@pytest.fixture(scope="session")
def row_wise_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, example = tmp_path_factory.mktemp("row-wise") / "m", pandas.DataFrame({"x": [0.5]})
    script = str(Path(__file__).with_name("row_wise_model.py"))
    mlflow.pyfunc.save_model(
        folder, python_model=script, signature=infer_signature(example), input_example=example, pip_requirements=["mlflow-skinny", "pandas"]
    )
    return folder


@pytest.fixture
async def row_wise(kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path, row_wise_model: Path) -> AsyncIterator[Bench]:
    async with open_bench(kafka, redis_settings, tmp_path, row_wise_model) as bench:
        yield bench


async def send(bench: Bench, *values: float | None, wait_s: float = 60.0) -> list[ScoringRequest]:
    bodies = [json.dumps({"dataframe_records": [{"x": value}]}).encode() for value in values]
    return list(await asyncio.gather(*(bench.send(0, n % PARTITIONS, wait_s, body) for n, body in enumerate(bodies))))


def rows_at_once(bench: Bench) -> list[int]:
    return [int(n) for n in re.findall(r"rows at once: (\d+)", bench.log_file.read_text())]


async def test_what_waits_goes_together_and_a_bad_row_is_its_callers_own(row_wise: Bench) -> None:
    bench = row_wise
    await bench.start()
    await bench.phase("ready")
    build_log = bench.state / "logs" / f"build-{bench.pool_id}.log"
    assert "Requests are scored together, 4 batches at a time: rows come out the same." in build_log.read_text()
    requests = await send(bench, *range(80))
    assert [json.loads(a.body) for a in await bench.answers(*requests)] == [{"predictions": [2.0 * n]} for n in range(80)]
    async with asyncio.timeout(PATIENCE_S):
        while ((await bench.phase("ready")).evaluation_s or 1) > 0.04:  # an evaluation takes 0.05 s: this is a request's share
            await asyncio.sleep(0.1)
    loading = 17  # no batch before the load is over has more rows
    assert max(rows_at_once(bench)) > loading
    mixed = await send(bench, 1, -2, 2, None, 3)
    assert [a.status for a in await bench.answers(*mixed)][:3] == [200, 400, 200]
    await bench.lag_is_zero()


async def test_a_poison_in_a_batch_costs_three_attempts_and_no_neighbour(row_wise: Bench) -> None:
    bench = row_wise
    await bench.start()
    await bench.phase("ready")
    await bench.answers(*await send(bench, *range(20)))  # known to be quick: batches may be large
    *neighbours, poison = await send(bench, *range(8), -1)
    assert [json.loads(a.body) for a in await bench.answers(*neighbours)] == [{"predictions": [2.0 * n]} for n in range(8)]
    assert (await bench.answers(poison))[0].status == 500
    await bench.lag_is_zero()
    assert await bench.redis.get(f"penstock:attempts:{poison.request_id}") == b"3"


async def test_a_batch_over_the_limit_is_the_fault_of_one(row_wise: Bench) -> None:
    bench = row_wise
    await bench.start(PENSTOCK_SCORER_EVALUATION_LIMIT_S="2")
    await bench.phase("ready")
    await bench.answers(*await send(bench, *range(20)))
    *neighbours, endless = await send(bench, *range(8), -5)
    assert [a.status for a in await bench.answers(*neighbours, endless)] == [200] * 8 + [504]
    (late,) = await send(bench, 1, wait_s=-1)
    assert (await bench.answers(late))[0].status == 504
    await bench.lag_is_zero()


async def test_bulk_leaves_a_lane_to_small_requests(row_wise: Bench) -> None:
    bench = row_wise
    await bench.start()
    await bench.phase("ready")
    await bench.answers(*await send(bench, *range(20)))
    rows = json.dumps({"dataframe_records": [{"x": n} for n in range(30_000)]}).encode()
    bulk = [await bench.send(0, 0, body=rows) for _ in range(8)]
    small = await send(bench, *range(4))
    answers = await bench.answers(*bulk, *small)
    assert [len(json.loads(a.body)["predictions"]) for a in answers[:8]] == [30_000] * 8
    order = [reply.request_id for reply in await bench.replies()]
    last_small = max(order.index(request.request_id) for request in small)
    assert sum(order.index(request.request_id) > last_small for request in bulk) >= 4
