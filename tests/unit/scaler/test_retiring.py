"""The retiring of one pool over several looks, when a look or a step is cut short."""

import time
from collections import defaultdict
from typing import Any

import pytest

from services.scaler.deployment import MAX_DEATHS
from services.scaler.lag import Lags
from services.scaler.look import LONGEST_LOOK_S, Look
from services.scaler.retiring import RetiringPools
from services.shared.control_events import EntitySpec, PoolRemoved
from services.shared.endpoints import ControlState, Pool
from services.shared.errors import DependencyLost
from services.shared.node import ReplicaProcess
from services.shared.presence import IngressReport, ReplicaReport

POOL = Pool("p", "e1", "churn", EntitySpec(name="a", model_name="m", model_version="1"), "ada", retired_at=10)
NOTHING_LEFT = Lags(0, 0)


class World:
    """Kafka, the control log and the pool, as far as `RetiringPools` touches them."""

    def __init__(self) -> None:
        self.has_topic, self.log_answers, self.removed = True, True, False
        self.did: list[str] = []

    async def remove(self, _: str) -> None:
        self.has_topic = False

    async def publish(self, _: PoolRemoved) -> None:
        if not self.log_answers:
            raise DependencyLost("The control log did not answer in time.")
        self.removed = True

    async def tell(self, *_: Any, **__: Any) -> None: ...

    async def stop(self, replica_id: str) -> None:
        self.did.append(f"stopped {replica_id}")

    async def refuse(self, pool_id: str) -> None:
        self.did.append(f"refuses {pool_id}")


def look(
    *, reports_complete: bool = True, lags: Lags = NOTHING_LEFT, phase: str | None = None, deaths: int = 0, age_s: float = 0.0
) -> Look:
    """At one replica of the pool, which reports `phase`; None: at none."""
    process = ReplicaProcess(replica_id="p-0", pool_id="p", refusing=False, state="running", pid=7, started_ms=1, deaths=deaths)
    report = ReplicaReport(pool_id="p", replica_id="p-0", phase=phase or "", at_ms=1)
    return Look(
        now=time.monotonic() - age_s,
        state=ControlState(),
        processes=defaultdict(list, {"p": [process]} if phase else {}),
        reports=defaultdict(list, {"p": [report]} if phase else {}),
        ingresses=[IngressReport(ingress_id="i", routed_from=11, at_ms=1)],
        nudged=frozenset(),
        reports_complete=reports_complete,
        lags={"p": lags},
    )


def retiring(world: Any) -> RetiringPools:
    return RetiringPools(world, world, world, world)


async def test_a_removal_whose_event_was_lost_is_finished_although_the_topic_is_gone() -> None:
    world = World()
    pools, world.log_answers = retiring(world), False
    with pytest.raises(DependencyLost):
        await pools.retire(POOL, look())
    assert not world.has_topic
    world.log_answers = True
    await pools.retire(POOL, look(lags=Lags(None, None)))
    assert world.removed


@pytest.mark.parametrize(
    "lags",
    [
        pytest.param(Lags(1, 0), id="its online queue holds a record"),
        pytest.param(Lags(0, 1), id="its bulk queue holds a record"),
        pytest.param(Lags(None, 0), id="that of its online queue is not known"),
        pytest.param(Lags(0, None), id="that of its bulk queue is not known"),
    ],
)
async def test_a_pool_stays_while(lags: Lags) -> None:
    world = World()
    await retiring(world).retire(POOL, look(lags=lags))
    assert world.has_topic


@pytest.mark.parametrize(
    ("phase", "deaths", "did"),
    [
        pytest.param("ready", 0, [], id="is ready"),
        pytest.param("ready", MAX_DEATHS, [], id="is ready, however often it died before"),
        pytest.param("loading", MAX_DEATHS - 1, [], id="starts again"),
        pytest.param("loading", MAX_DEATHS, ["stopped p-0", "refuses p"], id="dies again and again: others answer for it"),
        pytest.param("failed", 0, ["stopped p-0", "refuses p"], id="failed: others answer for it"),
    ],
)
async def test_what_is_left_is_finished_by_a_replica_that(phase: str, deaths: int, did: list[str]) -> None:
    world = World()
    await retiring(world).retire(POOL, look(lags=Lags(5, 0), phase=phase, deaths=deaths))
    assert world.did == did


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param({"phase": "ready"}, id="a replica is not stopped"),
        pytest.param({"phase": "failed", "lags": Lags(5, 0)}, id="a failed one is not replaced"),
        pytest.param({}, id="topics are not removed"),
    ],
)
async def test_on_a_look_of_long_ago(seen: dict[str, Any]) -> None:
    """A scaler that stood still may look at what another one has made anew."""
    world = World()
    with pytest.raises(DependencyLost):
        await retiring(world).retire(POOL, look(**seen, age_s=LONGEST_LOOK_S + 1))
    assert not world.did
    assert world.has_topic


async def test_nothing_is_removed_while_redis_may_lack_the_report_of_an_ingress_that_lives() -> None:
    world = World()
    await retiring(world).retire(POOL, look(reports_complete=False))
    assert world.has_topic
