import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings


class Writer:
    """A socket that takes everything; what happens while it does is the test's."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        self._meanwhile = meanwhile

    def writelines(self, command: Iterable[bytes]) -> None:
        pass

    async def drain(self) -> None:
        await self._meanwhile()

    def close(self) -> None:
        pass


@contextmanager
def connected(client: Redis, meanwhile: Callable[[], Any]) -> Iterator[Any]:
    pool: Any = client.connection_pool
    connection = pool.make_connection()
    connection._reader, connection._writer = object(), Writer(meanwhile)
    yield connection
    connection._reader = connection._writer = None


async def test_a_cancellation_is_not_lost_while_a_command_is_sent() -> None:
    """It once kept replicas that should leave in their pool, for two minutes, with partitions they did not serve."""

    async def cancelled_meanwhile() -> None:
        task.cancel()

    async def report() -> None:
        await connection.send_packed_command(b"PING", check_health=False)
        await asyncio.Event().wait()

    async with new_redis(RedisSettings(url="redis://127.0.0.1:1")) as client:
        with connected(client, cancelled_meanwhile) as connection:
            task = asyncio.create_task(report())
            for _ in range(10):
                await asyncio.sleep(0)
            assert task.cancelled()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///nowhere"])
async def test_a_socket_that_takes_nothing_is_given_up(url: str) -> None:
    async with new_redis(RedisSettings(url=url)) as client:
        with connected(client, asyncio.Event().wait) as connection:
            connection.socket_timeout = 0.01
            with pytest.raises(RedisTimeout):
                await connection.send_packed_command(b"PING", check_health=False)
            assert connection.socket_timeout == 0.01
