"""Real servers for the integration tests: one Kafka and one Redis a session, each on a free port in a folder of its own."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from services.cli.failures import StackFailure
from services.cli.kafka_broker import broker_command, prepare_storage
from services.cli.places import KAFKA_JARS
from services.cli.ports import LOOPBACK, free_port
from services.cli.probes import kafka_answers, redis_answers, wait_until
from services.cli.redis_server import find_redis, prepare_redis, redis_command
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import ensure_topics

START_TIMEOUT_S = 60
OWN_SERVERS = {f"tests/e2e/{name}.py" for name in ("test_elasticity", "test_secrets", "test_tables_on_s3")}


class ByServers(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """With `-n 2`: tests that share servers run in one process, so that there is one stack, one Kafka and one Redis."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        shared = next((folder for folder in ("tests/e2e", "tests/integration") if file.startswith(folder)), file)
        return file if file in OWN_SERVERS else shared


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServers:
    return ByServers(config, log)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker with the topics that always exist."""
    java = shutil.which("java")
    if java is None or not any(KAFKA_JARS.glob("*.jar")):
        missing("Java or Kafka's jars (make setup)")
    folder, port = tmp_path_factory.mktemp("kafka"), free_port()
    config = prepare_storage(java, folder, port, free_port())
    settings = KafkaSettings(bootstrap=f"{LOOPBACK}:{port}")
    with _running(broker_command(java, config), folder, lambda: kafka_answers(settings.bootstrap)):
        asyncio.run(ensure_topics(settings))
        yield settings


@pytest.fixture(scope="session")
def redis_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    try:
        binary = find_redis()
    except StackFailure as failure:
        missing(str(failure))
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    settings = RedisSettings(url=f"redis://{LOOPBACK}:{port}/0")
    with _running(redis_command(binary, prepare_redis(folder, port)), folder, lambda: redis_answers(settings.url)):
        yield settings


@contextmanager
def _running(command: list[str], folder: Path, answers: Callable[[], Awaitable[bool]]) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        asyncio.run(_wait_for(server, answers, log))
        yield
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


async def _wait_for(server: subprocess.Popen[bytes], answers: Callable[[], Awaitable[bool]], log: Path) -> None:
    async def answers_or_dead() -> bool:
        if server.poll() is not None:
            pytest.fail(f"{server.args!r} ended at its start, see {log}")
        return await answers()

    async with asyncio.timeout(START_TIMEOUT_S):
        await wait_until(answers_or_dead)


def missing(what: str) -> NoReturn:
    """Skip on somebody's own machine, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")
