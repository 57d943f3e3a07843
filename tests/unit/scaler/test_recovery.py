"""What is said of a pool in service whose replicas do not stay up, look after look, and which reports are believed."""

from collections.abc import Sequence

import pytest

from services.scaler.look import of_the_living
from services.scaler.recovery import CRASHES, Recovery
from services.shared.node import ReplicaProcess
from services.shared.presence import ReplicaReport

PAUSE_S, LIMIT_S = 10.0, 300.0
AGAIN = "The replica's process dies again and again; its log ends with: boom"


def process(number: int = 0, deaths: int = 0, last_words: str = "its log ends with: boom", started_ms: int | None = 1) -> ReplicaProcess:
    state = "backing-off" if started_ms is None else "running"
    facts = {"replica_id": f"p-{number}", "pool_id": "p", "refusing": False, "state": state, "pid": None, "started_ms": started_ms}
    return ReplicaProcess.model_validate({**facts, "deaths": deaths, "last_words": last_words if deaths else ""})


def report(phase: str, number: int = 0, at_ms: int = 1) -> ReplicaReport:
    return ReplicaReport(
        pool_id="p", replica_id=f"p-{number}", phase=phase, message="no such file" if phase == "failed" else "", at_ms=at_ms
    )


@pytest.mark.parametrize(
    ("staying", "reports", "stopped", "failure"),
    [
        pytest.param([], [], [], "", id="a sleeping pool lacks nothing"),
        pytest.param([process()], [report("ready")], [], "", id="a ready replica is well"),
        pytest.param([process()], [], [], "", id="a silent one starts"),
        pytest.param([process(deaths=CRASHES - 1)], [], [], "", id="some deaths are bad luck"),
        pytest.param([process(deaths=CRASHES)], [], [], AGAIN, id="more of them are not"),
        pytest.param([process(deaths=CRASHES)], [report("loading")], [], AGAIN, id="also while it starts again and says so"),
        pytest.param([process(deaths=CRASHES)], [report("ready")], [], AGAIN, id="also while it is ready: it has been so before"),
        pytest.param([process(deaths=CRASHES), process(1)], [report("ready", 1)], [], "", id="unless a neighbour answers"),
        pytest.param([process()], [report("failed")], ["p-0"], "no such file", id="a failed one is stopped, and its message told"),
        pytest.param(
            [process(), process(1)], [report("failed"), report("ready", 1)], ["p-0"], "no such file", id="also beside one that answers"
        ),
    ],
)
def test_a_look(staying: Sequence[ReplicaProcess], reports: Sequence[ReplicaReport], stopped: list[str], failure: str) -> None:
    recovery = Recovery(PAUSE_S, LIMIT_S)
    assert recovery.see(staying, reports, 0.0) == stopped
    assert recovery.failure == failure
    assert recovery.pauses(PAUSE_S - 1) == bool(stopped)
    assert not recovery.has_failed(0.0)


def test_a_replica_that_dies_each_time_it_is_ready_recovers_and_then_has_failed_until_it_stays_up() -> None:
    recovery, now = Recovery(PAUSE_S, LIMIT_S), 0.0
    while now < LIMIT_S:
        for seen in (process(deaths=CRASHES, started_ms=None), process(deaths=CRASHES)):
            recovery.see([seen], [report("ready")] if seen.started_ms else [], now)
            assert recovery.failure == AGAIN
            assert not recovery.has_failed(now)
            now += 1.0
    recovery.see([process(deaths=CRASHES)], [report("ready")], now)
    assert recovery.has_failed(now)
    recovery.see([process(deaths=0)], [report("ready")], now)
    assert not recovery.has_failed(now)
    assert recovery.failure == ""


def test_what_a_failed_replica_said_stays_until_another_is_ready() -> None:
    recovery = Recovery(PAUSE_S, LIMIT_S)
    recovery.see([process()], [report("failed")], 0.0)
    for now, seen in ((1.0, []), (11.0, [process()]), (12.0, [process()])):
        recovery.see(seen, [report("loading")] if seen else [], now)
        assert recovery.failure == "no such file"
    recovery.see([process()], [report("ready")], 13.0)
    assert recovery.failure == ""


@pytest.mark.parametrize(
    ("started_ms", "at_ms", "believed"),
    [
        pytest.param(100, 100, True, id="a process that runs"),
        pytest.param(101, 100, False, id="one that had the id before"),
        pytest.param(None, 100, False, id="one that died and is not started again yet"),
    ],
)
def test_a_report_is_believed_of(started_ms: int | None, at_ms: int, believed: bool) -> None:
    said = report("ready", at_ms=at_ms)
    assert of_the_living([process(started_ms=started_ms)], [said, report("ready", 1, at_ms)]) == [said] * believed
