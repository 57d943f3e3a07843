"""The whole replica as a process, on real Kafka and Redis."""

import asyncio
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from services.cli.ports import LOOPBACK, free_port
from services.shared.settings import MIB, KafkaSettings, RedisSettings
from services.shared.topics import online_topic
from tests.integration.scorer.bench import PARTITIONS, PATIENCE_S, Bench, lay_wrapper, open_bench


async def test_scores_logs_commits_and_drains(bench: Bench) -> None:
    (bench.state / "models" / "a-pool-that-is-gone").mkdir()
    replica = await bench.start()
    await bench.phase("ready")
    good, raised, nan = await bench.send(21), await bench.send(-2, 1), await bench.send(-3, 2)
    late = await bench.send(1, 3, wait_s=-1)
    await bench.producer.send_and_wait(online_topic(bench.pool_id), b"no envelope", partition=3)
    a_good, a_raised, a_nan, a_late = await bench.answers(good, raised, nan, late)
    assert (a_good.status, json.loads(a_good.body)) == (200, {"predictions": [42.0]})
    assert (a_raised.status, json.loads(a_raised.body)["error_code"]) == (400, "BAD_REQUEST")
    assert "the model does not like this" in json.loads(a_raised.body)["stack_trace"]
    assert json.loads(a_nan.body) == {"predictions": [None]}
    assert (a_late.status, json.loads(a_late.body)["error_code"]) == (504, "DEADLINE_EXCEEDED")
    await bench.lag_is_zero()
    rows = await bench.rows(good, raised, nan, late)
    assert [r.status for r in rows] == [200, 400, 200, 504]
    assert [r.client_request_id for r in rows] == ["mine 21", "mine -2", "mine -3", "mine 1"]
    async with asyncio.timeout(PATIENCE_S):  # beside its work it forgets what is gone
        while {entry.name for entry in (bench.state / "models").iterdir()} != {bench.pool_id, f"{bench.pool_id}.lock"}:
            await asyncio.sleep(0.05)
    slow = await bench.send(1_500)
    await bench.busy(1)
    replica.send_signal(signal.SIGTERM)
    assert await replica.wait() == 0
    assert (await bench.answers(slow))[0].status == 200
    await bench.lag_is_zero()


async def test_a_killed_worker_costs_no_request(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    requests = [await bench.send(2_000 + n, n % PARTITIONS) for n in range(8)]
    await bench.busy(4)
    bench.worker().kill()
    assert [json.loads(a.body) for a in await bench.answers(*requests)] == [{"predictions": [2.0 * (2_000 + n)]} for n in range(8)]
    await bench.lag_is_zero()
    assert 2.0 <= ((await bench.phase("ready")).evaluation_s or 0) < 2.7  # the wait for the new worker is no evaluation


async def test_poison_costs_three_attempts_and_no_neighbour(bench: Bench) -> None:
    await bench.start()
    await bench.phase("ready")
    neighbours = [await bench.send(700, n) for n in range(3)]
    poison = await bench.send(-1, 3)
    assert [a.status for a in await bench.answers(*neighbours)] == [200] * 3
    (crashed,) = await bench.answers(poison)
    assert (crashed.status, json.loads(crashed.body)["error_code"]) == (500, "INTERNAL_ERROR")
    await bench.lag_is_zero()
    assert poison.request_id in await bench.dead_letter_ids()
    assert (await bench.rows(poison))[0].status == 500
    assert await bench.redis.get(f"penstock:attempts:{poison.request_id}") == b"3"


async def test_a_model_that_does_not_come_back_ends_its_replica_and_the_next_one_says_why(bench: Bench) -> None:
    replica = await bench.start()
    await bench.phase("ready")
    lay_wrapper(bench.environment, "echo something that the model needs is gone; exit 9")
    bench.worker().kill()
    request = await bench.send(21)
    async with asyncio.timeout(PATIENCE_S):
        while "something that the model needs is gone" not in (await bench.phase("ready")).message:
            await asyncio.sleep(0.05)
        assert await replica.wait() == 1
    await bench.start()
    failed = await bench.phase("failed")
    assert (
        failed.message == "The model's process died while loading the model. Its process said last: something that the model needs is gone"
    )
    lay_wrapper(bench.environment, f'exec {sys.executable} "$@"')
    await bench.start(number=1)
    assert (await bench.answers(request))[0].status == 200


async def test_a_request_that_takes_too_much_memory_is_ended_and_its_neighbours_are_answered(bench: Bench) -> None:
    await bench.start(PENSTOCK_SCORER_MODEL_MEMORY_BYTES=str(512 * MIB))
    await bench.phase("ready")
    neighbours = [await bench.send(2_000, n) for n in range(3)]
    hungry = await bench.send(-5, 3)
    async with asyncio.timeout(PATIENCE_S):
        while "memory" not in (await bench.phase("ready")).message:
            await asyncio.sleep(0.05)
    assert [a.status for a in await bench.answers(*neighbours)] == [200] * 3
    (ended,) = await bench.answers(hungry)
    assert (ended.status, "more memory than its limit" in json.loads(ended.body)["message"]) == (500, True)
    assert hungry.request_id in await bench.dead_letter_ids()
    (after,) = await bench.answers(await bench.send(1))
    assert after.status == 200
    async with asyncio.timeout(PATIENCE_S):
        while (report := await bench.phase("ready")).message or not report.memory_share:
            await asyncio.sleep(0.05)
    assert report.memory_share < 1


async def test_a_model_that_does_not_fit_into_its_memory_fails_and_says_so(bench: Bench) -> None:
    await bench.start(PENSTOCK_SCORER_MODEL_MEMORY_BYTES=str(64 * MIB))
    assert (await bench.phase("failed")).message == "The model takes more memory than its limit of 64 MiB while it is loaded."


async def test_a_killed_host_costs_only_time(bench: Bench) -> None:
    first = await bench.start()
    await bench.phase("ready")
    requests = [await bench.send(1_000 + n, n % PARTITIONS) for n in range(6)]
    await bench.busy(4)
    worker = bench.worker()
    first.kill()
    await first.wait()
    await bench.redis.delete(f"penstock:replica:{bench.pool_id}-0")
    await bench.start()
    assert [json.loads(a.body) for a in await bench.answers(*requests)] == [{"predictions": [2.0 * (1_000 + n)]} for n in range(6)]
    await bench.lag_is_zero()
    assert not worker.is_running()


async def test_evaluation_over_its_limit_is_a_504_and_its_neighbour_is_answered(bench: Bench) -> None:
    await bench.start(PENSTOCK_SCORER_EVALUATION_LIMIT_S="2")
    await bench.phase("ready")
    endless, neighbour = await bench.send(30_000), await bench.send(1_500, 1)
    answers = await bench.answers(endless, neighbour)
    assert [a.status for a in answers] == [504, 200]


async def test_refusing_host_answers_what_is_left(bench: Bench) -> None:
    left, late = await bench.send(1), await bench.send(1, 1, wait_s=-1)
    await bench.start(PENSTOCK_SCORER_REFUSING="1")
    assert [a.status for a in await bench.answers(left, late)] == [503, 504]
    await bench.lag_is_zero()
    assert [r.status for r in await bench.rows(left, late)] == [503, 504]


async def test_a_pool_that_is_not_there_is_a_normal_end(bench: Bench) -> None:
    gone = replace(bench, pool_id="gone", processes=bench.processes)
    assert await (await gone.start()).wait() == 0


async def test_the_model_gets_its_own_variables_and_nothing_of_the_host(
    kafka: KafkaSettings, redis_settings: RedisSettings, tmp_path: Path, scripted_model: Path
) -> None:
    variables = {"API_KEY": "k3y-of-the-model", "TWO_LINES": "first line\nsecond line"}
    async with open_bench(kafka, redis_settings, tmp_path, scripted_model, variables) as bench:
        await bench.start(AWS_SECRET_ACCESS_KEY="of-the-host", MLFLOW_TRACKING_PASSWORD="of-the-host", SOMETHING="of-the-host")
        await bench.phase("ready")
        (shown,) = await bench.answers(await bench.send(-4))
        environment = json.loads(shown.body)["predictions"][0]
        assert variables.items() <= environment.items()
        assert "of-the-host" not in environment.values()
        assert not [name for name in environment if name.startswith("PENSTOCK_")]
        log = bench.log_file.read_text()
        assert "my environment" in log
        assert "[REDACTED]" in log
        assert not [value for value in ("k3y-of-the-model", "first line", "second line") if value in log]


async def test_an_mlflow_that_is_not_there_is_told_in_one_sentence_without_its_password(bench: Bench) -> None:
    shutil.rmtree(bench.state / "models" / bench.pool_id)
    bench.tracking_uri = f"http://somebody:p4ssword@{LOOPBACK}:{free_port()}"
    replica = await bench.start(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (await bench.phase("failed")).message == "The model models:/m/1 cannot be fetched: MLflow cannot be reached."
    logs = [bench.log_file, bench.state / "logs" / f"build-{bench.pool_id}.log"]
    assert not [log for log in logs if "p4ssword" in log.read_text()]
    replica.send_signal(signal.SIGTERM)
    assert await replica.wait() == 0


async def test_a_stuck_consumer_ends_the_process_so_that_a_new_one_is_started(bench: Bench) -> None:
    await bench.send(1)
    stuck = """
import asyncio, runpy
from services.scorer import host

def new_stuck_consumer(*arguments, new_consumer=host.new_consumer, **options):
    consumer = new_consumer(*arguments, **options)
    consumer.getmany = bring_nothing
    return consumer

async def bring_nothing(*partitions, timeout_ms=0, max_records=None):
    await asyncio.sleep(timeout_ms / 1000)
    return {}

host.new_consumer, host.STALL_LOOK_S = new_stuck_consumer, 1.0
runpy.run_module("services.scorer", run_name="__main__")
"""
    replica = await bench.start(command=("-c", stuck), PENSTOCK_SCORER_REFUSING="1")
    async with asyncio.timeout(PATIENCE_S):
        assert await replica.wait() == 1
    assert "ConsumerStuck" in bench.log_file.read_text()
    await bench.start(PENSTOCK_SCORER_REFUSING="1")
    await bench.lag_is_zero()
