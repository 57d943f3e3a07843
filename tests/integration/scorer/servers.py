"""Servers that a test may stop, kill and start again: the shared ones of the session are for everybody."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli.kafka_broker import broker_command, prepare_storage
from services.cli.ports import LOOPBACK, free_port
from services.cli.probes import Probe, kafka_answers, redis_answers, wait_until
from services.cli.redis_server import find_redis, prepare_redis, redis_command

START_TIMEOUT_S = 60


@dataclass
class Server:
    address: str
    command: list[str]
    folder: Path
    answers: Probe
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self.command, stdout=log, stderr=log)
        async with asyncio.timeout(START_TIMEOUT_S):
            await wait_until(self.answers)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "started first"
        os.kill(self.process.pid, number)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def own_redis(folder: Path) -> AsyncIterator[Server]:
    port = free_port()
    url = f"redis://{LOOPBACK}:{port}/0"
    async with _running(
        Server(url, redis_command(find_redis(), prepare_redis(folder, port)), folder, lambda: redis_answers(url))
    ) as server:
        yield server


@asynccontextmanager
async def own_kafka(folder: Path) -> AsyncIterator[Server]:
    java = shutil.which("java")
    if java is None:
        pytest.skip("missing: Java")
    port = free_port()
    config = await asyncio.to_thread(prepare_storage, java, folder, port, free_port())
    address = f"{LOOPBACK}:{port}"
    async with _running(Server(address, broker_command(java, config), folder, lambda: kafka_answers(address))) as server:
        yield server


@asynccontextmanager
async def _running(server: Server) -> AsyncIterator[Server]:
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
