"""SIGTERM before a replica is ready, and staying in the group while it is busy."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from services.scorer.answers import Answer
from services.scorer.attempts import Attempts
from services.scorer.host import Host
from services.scorer.jobs import Job
from services.shared.control_events import LANES_PER_REPLICA
from services.shared.settings import KafkaSettings
from services.shared.topics import online_queue
from tests.integration.scorer.bench import PATIENCE_S, Bench, lay_wrapper

PROMPT_S = 5.0


def looking_for_its_pool(bench: Bench, address: str) -> None:
    bench.kafka = KafkaSettings(bootstrap=address)


def fetching_its_model(bench: Bench, address: str) -> None:
    (bench.state / "models" / bench.pool_id).rename(bench.state / "elsewhere")
    bench.tracking_uri = f"http://{address}"


def building_its_environment(bench: Bench, address: str) -> None:
    requirements = bench.state / "models" / bench.pool_id / "requirements.txt"
    requirements.write_text(f"mlflow-skinny\nnothing @ http://{address}/nothing-1-py3-none-any.whl\n")


def loading_its_model(bench: Bench, address: str) -> None:
    lay_wrapper(bench.environment, "exec sleep 600")


@pytest.mark.parametrize(
    ("make_slow", "child"),
    [
        pytest.param(looking_for_its_pool, "", id="looking for its pool"),
        pytest.param(fetching_its_model, "model_download", id="fetching its model"),
        pytest.param(building_its_environment, "pip install", id="building its environment"),
        pytest.param(loading_its_model, "sleep", id="loading its model"),
    ],
)
async def test_leaves_promptly_while(bench: Bench, make_slow: Callable[[Bench, str], None], child: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        make_slow(bench, "{}:{}".format(*silent.getsockname()))
        replica = await bench.start()
        await bench.phase("building", "loading")
        children = await _children_with(replica.pid, child)
        replica.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PROMPT_S):
            assert await replica.wait() == 0
            while any(_computes(process) for process in children):
                await asyncio.sleep(0.05)


async def test_a_host_whose_lanes_are_all_taken_stays_in_its_group(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="services.scorer.host")
    scored: list[str] = []

    class SlowLanes:
        """Takes as many as there are lanes, 4 s each."""

        capacity = LANES_PER_REPLICA

        def __init__(self) -> None:
            self.freed = asyncio.Event()
            self.in_flight = 0

        def submit(self, jobs: Sequence[Job]) -> None:
            for job in jobs:
                self.in_flight += 1
                scored.append(job.request.request_id)
                asyncio.get_running_loop().call_later(4, self._done, job)

        def _done(self, job: Job) -> None:
            self.in_flight -= 1
            job.answer(Answer(200, "application/json", b"{}", duration_s=4.0))
            self.freed.set()

    queue, attempts = online_queue(bench.pool_id), Attempts(bench.redis)
    async with running(Host(bench.pool_id, "host", queue, bench.kafka, bench.redis, attempts, SlowLanes(), max_poll_interval_s=1.0)):
        requests = [await bench.send(n, n % 4) for n in range(LANES_PER_REPLICA + 1)]
        assert [a.status for a in await bench.answers(*requests)] == [200] * len(requests)
        await bench.lag_is_zero()
    assert sorted(scored) == sorted(r.request_id for r in requests)
    assert [r.message for r in caplog.records].count("partitions assigned") == 1


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[None]:
    await host.start()
    running = asyncio.create_task(host.run(), name="host")
    try:
        yield
        host.stop_taking()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await host.leave()


def _computes(process: psutil.Process) -> bool:
    """False for a zombie too: a child's child is left to the machine's first process to collect."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _children_with(pid: int, part: str) -> list[psutil.Process]:
    """All children, as soon as one's command line has `part` in it; none is awaited for an empty one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            children = psutil.Process(pid).children(recursive=True)
            with suppress(psutil.Error):  # one of them has just ended
                if not part or any(part in " ".join(child.cmdline()) for child in children):
                    return children
            await asyncio.sleep(0.05)
