"""Everything a stack keeps or shows, searched for secrets that must not be there."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from redis import Redis

from services.shared.kafka_clients import new_consumer
from services.shared.settings import KafkaSettings

KAFKA, TABLES, ENVIRONMENTS = "kafka", "tables", "environments"

Canaries = Mapping[str, str]  # where it was put → the secret


def leaks(canaries: Canaries, places: Iterator[tuple[str, bytes]]) -> set[tuple[str, str]]:
    """(what was found, where)."""
    return {(name, place) for place, data in places for name, canary in canaries.items() if canary.encode() in data}


async def records(bootstrap: str) -> list[tuple[str, bytes]]:
    """Of every topic, with their keys and headers."""
    consumer, admin = new_consumer(KafkaSettings(bootstrap=bootstrap)), AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await asyncio.gather(consumer.start(), admin.start())
    try:
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        partitions = [TopicPartition(topic, partition["partition"]) for topic, inside in topics.items() for partition in inside]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[tuple[str, bytes]] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                found += [(record.topic, _flat([record.key, record.value, *record.headers])) for record in batch]
        return found
    finally:
        await asyncio.gather(consumer.stop(), admin.close())


def redis_keys(url: str) -> Iterator[tuple[str, bytes]]:
    """By the key, with the key itself."""
    with Redis.from_url(url) as redis:
        for key in redis.scan_iter():
            yield key.decode(), _flat([key, _value(redis, key)])


def _value(redis: Redis, key: bytes) -> Any:
    match redis.type(key):
        case b"string":
            return redis.get(key)
        case b"hash":
            return redis.hgetall(key)
        case b"stream":
            return redis.xrange(key)
        case b"zset":
            return redis.zrange(key, 0, -1)
        case b"list":
            return redis.lrange(key, 0, -1)
        case b"none":
            return ""  # gone since it was listed
        case other:
            raise AssertionError(f"{key!r} is a {other!r}: nobody reads it here yet")


def files(state: Path) -> Iterator[tuple[str, bytes]]:
    """All but what Kafka and the tables keep, which are read as what they are, and the installed packages of the models."""
    for path in state.rglob("*"):
        parts = path.relative_to(state).parts
        if parts[0] not in (KAFKA, TABLES, ENVIRONMENTS) and path.is_file() and not path.is_symlink():
            yield str(path.relative_to(state)), path.read_bytes()


def processes(all_of_them: list[psutil.Process]) -> Iterator[tuple[str, bytes]]:
    """Command lines, and the environment of each process that is no model worker: theirs is where secrets go."""
    for process in all_of_them:
        line = process.cmdline()
        yield f"command line of {process.pid}", _flat(line)
        if not any("model_worker" in argument for argument in line):
            yield f"environment of {line}", _flat(process.environ())


def _flat(value: Any) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case Mapping():
            return _flat([*value.keys(), *value.values()])
        case list() | tuple() | set():
            return b"\n".join(map(_flat, value))
    return str(value).encode()
