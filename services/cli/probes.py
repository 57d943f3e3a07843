"""Whether Kafka, Redis and MLflow answer: a real request each, never only an open port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings

PROBE_TIMEOUT_S = 5.0
PROBE_EVERY_S = 0.1

Probe = Callable[[], Awaitable[bool]]


async def kafka_answers(bootstrap: str) -> bool:
    """A broker answers a metadata request and names at least one live broker."""
    if not await _any_port_open(bootstrap):
        return False  # the client would log an error for what is only not there yet
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(PROBE_TIMEOUT_S * 1000))
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await client.bootstrap()
            return bool(client.cluster.brokers())
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()


async def redis_answers(url: str) -> bool:
    redis = new_redis(RedisSettings(url=url))
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return bool(await redis.ping())
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await redis.aclose()


async def mlflow_answers(uri: str) -> bool:
    if urlsplit(uri).scheme not in ("http", "https"):
        return False
    try:
        async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
            return (await client.get(f"{uri.rstrip('/')}/health")).is_success
    except httpx.HTTPError:
        return False


async def wait_until(probe: Probe) -> None:
    """Return when the probe says yes; the caller sets the timeout."""
    while not await probe():  # noqa: ASYNC110  another process tells no event of ours
        await asyncio.sleep(PROBE_EVERY_S)


async def _any_port_open(bootstrap: str) -> bool:
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError, ValueError):
            continue
        writer.close()
        return True
    return False
