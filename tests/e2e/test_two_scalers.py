"""Two scalers of one stack: when the leading one stands still the other scales, and nothing is resized twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.shared.readiness import READY_VARIABLE
from tests.e2e.conftest import Deployed, Stack, eventually

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
    with stack.client() as client:
        events = client.get(f"/api/2.0/serving-endpoints/{endpoint.name}/events").json()["events"]
    return sum("0 → 1 replicas (waking)" in event["message"] for event in events)
