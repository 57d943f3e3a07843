"""Two scalers of one stack: when the leading one stands still or dies the other scales, and nothing is resized twice, or for nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.shared.leadership import SESSION_MS
from services.shared.readiness import READY_VARIABLE
from tests.e2e.conftest import Deployed, Stack, eventually
from tests.e2e.load import Load

SPLIT = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}


async def test_a_stopped_scaler_is_replaced_and_decides_nothing_when_it_goes_on(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    endpoint = deploy(scale_to_zero_enabled=True)
    await eventually(lambda: not replicas(stack, endpoint))
    with second_scaler(stack):
        (first,) = stack.pids("scaler")
        os.kill(first, signal.SIGSTOP)
        try:
            assert score(stack, endpoint) == 200, "the other scaler woke the pool"
        finally:
            os.kill(first, signal.SIGCONT)
        await eventually(lambda: not replicas(stack, endpoint))
        assert score(stack, endpoint) == 200
        assert wakes(stack, endpoint) == 2


async def test_a_scaler_that_stood_still_under_load_resizes_nothing_when_it_goes_on(stack: Stack, deploy: Callable[..., Deployed]) -> None:
    """For longer than its session: another one leads, and what it looks at is of before."""
    endpoint = deploy(min_provisioned_concurrency=4, max_provisioned_concurrency=16)
    with second_scaler(stack):
        async with Load(endpoint.invocations, stack.token, clients=4, pause_s=0.1, params={"sleep_s": 0.1}) as load:
            (first,) = stack.pids("scaler")
            os.kill(first, signal.SIGSTOP)
            try:
                await asyncio.sleep(1.5 * SESSION_MS / 1000)
            finally:
                os.kill(first, signal.SIGCONT)
            await load.answers(200)
    assert resizes(stack, endpoint) == []
    assert not load.ledger.not_ok()


async def test_a_scaler_that_follows_a_dead_one_resizes_no_pool_that_is_large_enough_and_follows_a_step(
    stack: Stack, deploy: Callable[..., Deployed]
) -> None:
    endpoint = deploy(min_provisioned_concurrency=4, max_provisioned_concurrency=16)
    async with Load(endpoint.invocations, stack.token, clients=4, pause_s=0.1, params={"sleep_s": 0.1}) as load:
        await load.answers(100)
        (first,) = stack.pids("scaler")
        os.kill(first, signal.SIGKILL)
        await asyncio.sleep(3 * SESSION_MS / 1000)  # the next one leads, and has looked at the load for as long
        await load.answers(50)
        assert resizes(stack, endpoint) == []
        async with Load(endpoint.invocations, stack.token, clients=24, pause_s=0.0, params={"sleep_s": 0.2}) as more:
            await eventually(lambda: any("1 → " in message for message in resizes(stack, endpoint)))
    assert not load.ledger.not_ok()
    assert not more.ledger.not_ok()


@contextmanager
def second_scaler(stack: Stack) -> Iterator[None]:
    status = stack.status()
    readable, writable = os.pipe()
    environ = stack.environ | {
        "PENSTOCK_KAFKA_BOOTSTRAP": status["kafka"],
        "PENSTOCK_REDIS_URL": status["redis"],
        READY_VARIABLE: str(writable),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.scaler"], env=environ, pass_fds=(writable,), stderr=subprocess.DEVNULL)
    try:
        os.close(writable)
        with os.fdopen(readable) as told:
            assert told.readline() == "READY=1\n"
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def replicas(stack: Stack, endpoint: Deployed) -> list[int]:
    """Their processes: what the API tells is of a second ago, and for a moment of the scaler that stood still."""
    return stack.pids(f"scorer-{endpoint.id}")


def score(stack: Stack, endpoint: Deployed) -> int:
    with stack.client() as client:
        return client.post(endpoint.invocations, json=SPLIT).status_code


def wakes(stack: Stack, endpoint: Deployed) -> int:
    return sum("0 → 1 replicas (waking)" in message for message in resizes(stack, endpoint))


def resizes(stack: Stack, endpoint: Deployed) -> list[str]:
    """Without that of its deployment."""
    with stack.client() as client:
        events = client.get(f"/api/2.0/serving-endpoints/{endpoint.name}/events").json()["events"]
    return [event["message"] for event in events if "replicas (" in event["message"] and "(deploying)" not in event["message"]]
