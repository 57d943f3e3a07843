"""Redis and Kafka away for a while: the replica, the same process, goes on by itself."""

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from services.shared.envelope import ScoringRequest
from services.shared.kafka_clients import new_producer
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import ensure_topics
from tests.integration.scorer.bench import PARTITIONS, Bench, open_bench
from tests.integration.scorer.servers import own_kafka, own_redis

AWAY_S = 5.5  # longer than a Redis client waits


async def test_redis_away_for_a_while(kafka: KafkaSettings, tmp_path: Path, scripted_model: Path) -> None:
    async with (
        own_redis(tmp_path / "redis") as redis,
        open_bench(kafka, RedisSettings(url=redis.address), tmp_path, scripted_model) as bench,
    ):
        replica = await bench.start()
        await bench.phase("ready")
        redis.send_signal(signal.SIGSTOP)
        held = await _send(bench, 100)
        await asyncio.sleep(AWAY_S)
        redis.send_signal(signal.SIGCONT)
        await _all_right(bench, held)
        held = await _send(bench, 400)  # these are being scored when Redis dies
        await redis.kill()
        held += await _send(bench, 100)
        await asyncio.sleep(1)
        await redis.start()
        await bench.redis.connection_pool.disconnect()
        await _all_right(bench, held)
        assert replica.returncode is None


async def test_a_killed_broker_comes_back(redis_settings: RedisSettings, tmp_path: Path, scripted_model: Path) -> None:
    async with own_kafka(tmp_path / "kafka") as broker:
        kafka = KafkaSettings(bootstrap=broker.address)
        await ensure_topics(kafka)
        async with open_bench(kafka, redis_settings, tmp_path, scripted_model) as bench:
            replica = await bench.start()
            await bench.phase("ready")
            held = await _send(bench, 100)
            await _all_right(bench, held)
            held = await _send(bench, 1_000)  # these are being scored when the broker dies
            await bench.busy(4)
            await broker.kill()
            await asyncio.sleep(2)
            await broker.start()
            await bench.producer.stop()
            bench.producer = new_producer(kafka)
            await bench.producer.start()
            held += await _send(bench, 100)
            await _all_right(bench, held)
            assert replica.returncode is None


async def _send(bench: Bench, value: int) -> list[ScoringRequest]:
    return [await bench.send(value + n, n % PARTITIONS) for n in range(2 * PARTITIONS)]


async def _all_right(bench: Bench, sent: Sequence[ScoringRequest]) -> None:
    expected = [{"predictions": [2 * json.loads(r.body)["inputs"][0][0]]} for r in sent]
    assert [json.loads(a.body) for a in await bench.answers(*sent)] == expected
    await bench.lag_is_zero()
    assert {row.status for row in await bench.rows(*sent)} == {200}
