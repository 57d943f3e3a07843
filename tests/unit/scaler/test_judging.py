"""Whether a deployment is ready, what comes next for a retired pool, what a pool's flow looks like, which replicas start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scaler.deployment import MAX_DEATHS, TIMED_OUT, Failed, Ready, judge_deployment
from services.scaler.lag import SAMPLE_EVERY_S, Flow
from services.scaler.pools_process import free_ids
from services.scaler.retirement import Step, next_step
from services.shared.presence import IngressReport, ReplicaReport
from services.shared.topics import partitions_for


def replicas(*phases: str) -> list[ReplicaReport]:
    return [
        ReplicaReport(pool_id="p", replica_id=f"p-{n}", phase=phase, message="no such package" if phase == "failed" else "", at_ms=1)
        for n, phase in enumerate(phases)
    ]


@pytest.mark.parametrize(
    ("phases", "deaths", "waited_s", "verdict"),
    [
        pytest.param([], 0, 1.0, None, id="silence is waited for"),
        pytest.param(["ready", "loading"], 0, 1.0, None, id="one of two is waited for"),
        pytest.param(["ready", "draining"], 0, 1.0, None, id="a leaving one does not count"),
        pytest.param(["ready", "ready"], 0, 1.0, Ready(), id="all are ready"),
        pytest.param(["ready", "ready", "loading"], 0, 1.0, Ready(), id="more than enough is ready"),
        pytest.param(["ready", "ready"], MAX_DEATHS, 9999.0, Ready(), id="ready at last is ready"),
        pytest.param(["ready", "failed"], 0, 1.0, Failed("no such package"), id="one failure fails it"),
        pytest.param(["ready", "ready", "failed"], 0, 1.0, Failed("no such package"), id="even beside enough ready ones"),
        pytest.param(["building"], 0, 60.0, None, id="the time-out itself is still waited for"),
        pytest.param(["building"], 0, 60.1, Failed(TIMED_OUT, timed_out=True), id="after it the deployment is aborted"),
        pytest.param([], MAX_DEATHS - 1, 1.0, None, id="some deaths are bad luck"),
    ],
)
def test_judge_deployment(phases: list[str], deaths: int, waited_s: float, verdict: Ready | Failed | None) -> None:
    assert judge_deployment(replicas(*phases), 2, deaths, waited_s, 60.0) == verdict


def test_a_process_that_dies_again_and_again_fails_the_deployment() -> None:
    verdict = judge_deployment(replicas("loading"), 1, MAX_DEATHS, 1.0, 60.0)
    assert isinstance(verdict, Failed)
    assert not verdict.timed_out


def ingresses(*routed_from: int) -> list[IngressReport]:
    return [IngressReport(ingress_id=str(n), routed_from=offset, at_ms=1) for n, offset in enumerate(routed_from)]


@pytest.mark.parametrize(
    ("routed_from", "lag", "able", "processes", "step"),
    [
        pytest.param([11, 12], 0, 1, 1, Step.STOP, id="all moved on and nothing is left"),
        pytest.param([11, 12], 0, 0, 0, Step.REMOVE, id="and nobody is there"),
        pytest.param([], 0, 0, 0, Step.REMOVE, id="without any ingress nothing can be appended"),
        pytest.param([11, 10], 0, 0, 0, Step.DRAIN, id="an ingress at the retirement itself may still append"),
        pytest.param([11, 3], 0, 1, 1, Step.DRAIN, id="an ingress from before it may still append"),
        pytest.param([11], 5, 1, 1, Step.DRAIN, id="replicas finish what is left"),
        pytest.param([11], 5, 0, 1, Step.REFUSE, id="replicas that cannot answer finish nothing"),
        pytest.param([3], 5, 0, 0, Step.REFUSE, id="nobody is there to finish, closed or not"),
        pytest.param([11], None, 0, 0, Step.DRAIN, id="an unknown lag is not zero"),
        pytest.param([11], None, 1, 1, Step.DRAIN, id="nor a reason to stop anyone"),
    ],
)
def test_next_step(routed_from: list[int], lag: int | None, able: int, processes: int, step: Step) -> None:
    assert next_step(10, ingresses(*routed_from), lag, able, processes) is step


@given(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=4), st.none() | st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_nothing_is_stopped_or_removed_while_a_record_may_be_left(
    retired_at: int, routed_from: list[int], lag: int | None, able: int, processes: int
) -> None:
    step = next_step(retired_at, ingresses(*routed_from), lag, able, processes)
    if step in (Step.STOP, Step.REMOVE):
        assert lag == 0
        assert all(offset > retired_at for offset in routed_from)
    assert step is not Step.REMOVE or processes == 0


def flow(*samples: tuple[float, int], window_s: float = 10.0) -> Flow:
    made = Flow(born_at=0.0)
    for now, appended in samples:
        made.add(now, appended, window_s)
    return made


@pytest.mark.parametrize(
    ("samples", "rate", "idle_s"),
    [
        pytest.param([], 0.0, 100.0, id="never looked at"),
        pytest.param([(1.0, 500)], 0.0, 100.0, id="one look shows no rate, and old records are no news"),
        pytest.param([(1.0, 500), (6.0, 600)], 20.0, 94.0, id="two looks show a rate"),
        pytest.param([(1.0, 500), (6.0, 600), (11.0, 600)], 10.0, 94.0, id="idle counts from the last advance"),
        pytest.param([(1.0, 500), (2.0, 520)], 0.0, 98.0, id="two looks soon after each other do not"),
        pytest.param([(1.0, 0), (1.0, 50)], 0.0, 99.0, id="two looks at one instant show no rate"),
        pytest.param([(0.0, 0), (5.0, 1000), (15.0, 1000), (26.0, 1000)], 0.0, 95.0, id="what is older than the window is forgotten"),
    ],
)
def test_flow(samples: list[tuple[float, int]], rate: float, idle_s: float) -> None:
    seen = flow(*samples)
    assert (seen.rate(), seen.idle_s(100.0)) == (rate, idle_s)


@pytest.mark.parametrize(
    ("samples", "sure"),
    [
        pytest.param([], 0.0, id="never looked at"),
        pytest.param([(0.0, 0), (4.9, 9999)], 0.0, id="so little time tells nothing"),
        pytest.param([(0.0, 0), (5.0, 10)], 0.0, id="few records may be chance"),
        pytest.param([(0.0, 0), (5.0, 400)], 64.0, id="of many most are sure"),
        pytest.param([(0.0, 0), (10.0, 400)], 40.0, id="after the whole window it is the average"),
    ],
)
def test_sure_rate(samples: list[tuple[float, int]], sure: float) -> None:
    assert flow(*samples).sure_rate(10.0) == pytest.approx(sure)


@pytest.mark.parametrize(
    ("samples", "least"),
    [
        pytest.param([(0.0, 0), (0.5, 50), (1.0, 150)], 100.0, id="the slowest stretch of the window"),
        pytest.param([(0.0, 0), (0.5, 200), (1.0, 200)], 0.0, id="a burst of a moment is none"),
        pytest.param([(0.0, 0), (0.5, 5), (1.0, 105), (1.5, 205)], 200.0, id="what was before the window does not count"),
        pytest.param([(0.0, 0), (0.5, 50)], 0.0, id="too little was seen"),
        pytest.param([], 0.0, id="nothing was seen"),
    ],
)
def test_least_rate(samples: list[tuple[float, int]], least: float) -> None:
    assert flow(*samples).least_rate(0.9) == least


@given(st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 50)), min_size=2, max_size=200))
def test_a_flow_keeps_little_and_its_rate_is_no_less_than_nothing(steps: list[tuple[float, int]]) -> None:
    seen, now, appended = Flow(0.0), 0.0, 0
    for pause, more in steps:
        now, appended = now + pause, appended + more
        seen.add(now, appended, 1.0)
    assert 0.0 <= seen.sure_rate(1.0) <= seen.rate()
    latest = seen.samples[-1][0]
    assert latest > now - SAMPLE_EVERY_S
    assert len(seen.samples) <= 2 or seen.samples[1][0] > latest - 1.0
    assert 0.0 <= seen.least_rate(0.9) <= 50 / SAMPLE_EVERY_S * len(steps)
    assert 0.0 <= seen.idle_s(now) <= now


@pytest.mark.parametrize(
    ("taken", "wanted", "ids"),
    [
        pytest.param(set(), 2, ["p-0", "p-1"], id="the lowest first"),
        pytest.param({"p-0", "p-2"}, 2, ["p-1", "p-3"], id="holes are filled"),
        pytest.param({"p-refusing"}, 1, ["p-0"], id="a refusing host takes no number"),
        pytest.param(set(), 0, [], id="none"),
        pytest.param(set(), -1, [], id="fewer than none is none"),
    ],
)
def test_free_ids(taken: set[str], wanted: int, ids: list[str]) -> None:
    assert free_ids("p", taken, wanted) == ids


@pytest.mark.parametrize(("replica_count", "partitions"), [(1, 4), (4, 4), (5, 5), (16, 16)])
def test_every_replica_can_have_a_partition(replica_count: int, partitions: int) -> None:
    assert partitions_for(replica_count) == partitions
