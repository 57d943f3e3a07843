"""One scaler over several looks: what holds up one pool, what is too old to act on, and what a nudge is worth."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError

from services.scaler.control_loop import ControlLoop
from services.scaler.lag import LagReader, Lags
from services.scaler.look import LONGEST_LOOK_S
from services.scaler.nudges import Nudges
from services.scaler.serving import ServingPool
from services.scaler.settings import ScalerSettings
from services.shared.control_events import EntitySpec
from services.shared.endpoints import ControlState, Pool
from services.shared.errors import DependencyLost
from services.shared.node import ReplicaProcess
from services.shared.presence import ReplicaReport

SETTINGS = ScalerSettings()


def pool(name: str, **size: Any) -> Pool:
    spec = EntitySpec.model_validate({"name": name, "model_name": "m", "model_version": "1", **size})
    return Pool(name, f"e-{name}", "churn", spec, "ada")


class World:
    """Kafka, Redis, the control log and the supervisor, as far as the loop touches them."""

    def __init__(self, *pools: Pool) -> None:
        self.state = ControlState(pools={p.pool_id: p for p in pools})
        self.lags: dict[str, Lags] = {}  # by pool id; nothing for all others
        self.reports: list[ReplicaReport] = []
        self.processes: list[ReplicaProcess] = []
        self.fails_for: str | None = None
        self.did: list[str] = []
        self.asked_for: list[list[str]] = []
        self._flows = LagReader(self, self, SETTINGS.rate_window_s)
        self.flow, self.keep_only = self._flows.flow, self._flows.keep_only

    async def refresh(self) -> ControlState:
        return self.state

    async def replicas(self) -> list[ReplicaProcess]:
        return self.processes

    async def of_pools(self, pools: list[Pool]) -> Mapping[str, Lags]:
        self.asked_for.append([p.pool_id for p in pools])
        return {p.pool_id: self.lags.get(p.pool_id, Lags(0, 0)) for p in pools}

    async def make(self, *_: Any) -> None: ...

    async def tell(self, *_: Any, **__: Any) -> None: ...

    async def retire(self, *_: Any) -> None: ...

    async def resize(self, pool_id: str, _: Any, target: int) -> None:
        if pool_id == self.fails_for:
            raise DependencyLost("The node supervisor does not answer.")
        self.did.append(f"{pool_id} → {target}")

    async def stop(self, replica_id: str) -> None:
        self.did.append(f"stopped {replica_id}")

    # Redis
    async def mget(self, keys: list[str]) -> list[str]:
        return [r.model_dump_json() for r in self.reports if f"penstock:replica:{r.replica_id}" in keys]

    async def hgetall(self, _: str) -> dict[str, str]:
        return {}

    async def info(self, _: str) -> dict[str, int]:
        return {"uptime_in_seconds": 100}

    async def set(self, *_: Any, **__: Any) -> None: ...


def loop(world: Any) -> ControlLoop:
    return ControlLoop(
        world, world, world, world, world, world, lambda: ServingPool(SETTINGS, world, world, world, world, world, world, world)
    )


def asleep(name: str) -> Pool:
    return pool(name, scale_to_zero_enabled=True)


def running(pool_id: str, number: int = 0) -> ReplicaProcess:
    return ReplicaProcess(replica_id=f"{pool_id}-{number}", pool_id=pool_id, refusing=False, state="running", pid=7, started_ms=1)


async def test_a_pool_whose_lag_is_not_known_holds_its_size_and_the_others_are_followed() -> None:
    world = World(asleep("gone"), asleep("awake"))
    world.lags = {"gone": Lags(None, None), "awake": Lags(1, 0)}
    assert await loop(world).tick(time.monotonic(), frozenset({"gone"})) is None
    assert world.did == ["awake → 1"]


async def test_what_fails_for_one_pool_holds_up_no_other() -> None:
    world = World(asleep("a"), asleep("b"))
    world.lags, world.fails_for = {"a": Lags(1, 0), "b": Lags(1, 0)}, "a"
    assert isinstance(await loop(world).tick(time.monotonic(), frozenset()), DependencyLost)
    assert world.did == ["b → 1"]


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda world: world.lags.update(a=Lags(1, 0)), id="wakes no pool"),
        pytest.param(lambda world: world.processes.append(running("unknown")), id="stops no stray"),
        pytest.param(
            lambda world: (
                world.processes.append(running("a")),
                world.reports.append(ReplicaReport(pool_id="a", replica_id="a-0", phase="failed", at_ms=2)),
            ),
            id="stops no failed replica",
        ),
    ],
)
async def test_a_scaler_that_stood_still_in_its_look(prepare: Any) -> None:
    world = World(asleep("a"))
    prepare(world)
    scaler = loop(world)
    with suppress(DependencyLost):
        await scaler.tick(time.monotonic() - LONGEST_LOOK_S - 1, frozenset())
    assert world.did == []
    await scaler.tick(time.monotonic(), frozenset())
    assert len(world.did) == 1, "it is done on a look of now"


async def test_a_nudge_is_a_look_at_its_own_pool() -> None:
    world = World(asleep("a"), asleep("b"))
    await loop(world).tick(time.monotonic(), frozenset({"b"}), frozenset({"b"}))
    assert world.asked_for == [["b"]]
    assert world.did == ["b → 1"]


async def test_a_retired_pool_asks_for_no_closer_look() -> None:
    world = World(pool("a"))
    scaler = loop(world)
    await scaler.tick(time.monotonic(), frozenset())
    assert scaler._pause_s(SETTINGS.tick_s) < SETTINGS.tick_s, "its replica starts"
    world.state = ControlState(pools={"a": replace(pool("a"), retired_at=1)})
    await scaler.tick(time.monotonic(), frozenset())
    assert scaler._pause_s(SETTINGS.tick_s) == SETTINGS.tick_s


def test_a_pool_that_cannot_wake_up_is_news_once_between_two_looks_at_all() -> None:
    nudges = Nudges(None)  # type: ignore[arg-type]
    nudges.hear("a")
    assert nudges.take_fresh() == {"a"}
    nudges.hear("a")
    nudges.hear("b")
    assert nudges.take_fresh() == {"b"}
    assert nudges.take() == {"a", "b"}, "the look at all pools knows who was nudged since the last one"
    nudges.hear("a")
    assert nudges.take_fresh() == {"a"}
    assert nudges.take() == {"a"}
    assert nudges.take() == frozenset()


class Broker:
    """Answers for every topic but those that are gone: for these it is asked again and again."""

    def __init__(self, *gone: str) -> None:
        self.gone, self.asked, self.found = gone, 0, asyncio.Event()

    async def list_consumer_group_offsets(self, _: str) -> dict[Any, Any]:
        return {}

    async def end_offsets(self, partitions: Any) -> dict[Any, int]:
        if any(name in partitions[0].topic for name in self.gone):
            self.asked += 1
            await self.found.wait()
            raise UnknownTopicOrPartitionError
        return dict.fromkeys(partitions, 1)

    async def beginning_offsets(self, partitions: Any) -> dict[Any, int]:
        return dict.fromkeys(partitions, 0)


async def test_one_topic_that_is_gone_leaves_the_lags_of_all_other_pools_known_and_is_not_waited_for_again() -> None:
    broker: Any = Broker("gone")
    lag, pools, every = LagReader(broker, broker, SETTINGS.rate_window_s, patience_s=0.05), [pool("gone"), pool("a"), pool("b")], Lags(4, 4)
    for _ in range(3):
        assert await lag.of_pools(pools) == {"gone": Lags(None, None), "a": every, "b": every}
    assert broker.asked == 2, "once of each of its queues"
    broker.gone = ()
    broker.found.set()
    await asyncio.gather(*lag._asking.values())
    assert (await lag.of_pools(pools))["gone"] == every
