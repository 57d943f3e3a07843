"""The retiring of one pool over several looks, when a look or a step is cut short."""

from collections import defaultdict
from typing import Any

import pytest

from services.scaler.lag import LagReader
from services.scaler.look import Look
from services.scaler.retiring import RetiringPools
from services.shared.control_events import EntitySpec, PoolRemoved
from services.shared.endpoints import ControlState, Pool
from services.shared.errors import DependencyLost
from services.shared.presence import IngressReport
from services.shared.topics import Queue, queues_of

POOL = Pool("p", "e1", "churn", EntitySpec(name="a", model_name="m", model_version="1"), "ada", retired_at=10)


class World:
    """Kafka, the control log and the pool, as far as `RetiringPools` touches them."""

    def __init__(self) -> None:
        self.has_topic, self.log_answers, self.removed = True, True, False
        self.lags: dict[str, int | None] = {}  # by topic; 0 for all others

    of_pool = LagReader.of_pool

    async def read(self, queue: Queue, *_: Any) -> int | None:
        return self.lags.get(queue.topic, 0) if self.has_topic else None

    async def remove(self, _: str) -> None:
        self.has_topic = False

    async def publish(self, _: PoolRemoved) -> None:
        if not self.log_answers:
            raise DependencyLost("The control log did not answer in time.")
        self.removed = True

    async def tell(self, *_: Any, **__: Any) -> None: ...

    async def refuse(self, _: str) -> None: ...


def look(*, reports_complete: bool = True, routed_from: int = 11) -> Look:
    ingresses = [IngressReport(ingress_id="i", routed_from=routed_from, at_ms=1)]
    return Look(0.0, ControlState(), defaultdict(list), defaultdict(list), ingresses, frozenset(), reports_complete)


def retiring(world: Any) -> RetiringPools:
    return RetiringPools(world, world, world, world, world)


async def test_a_removal_whose_event_was_lost_is_finished_although_the_topic_is_gone() -> None:
    world = World()
    pools, world.log_answers = retiring(world), False
    with pytest.raises(DependencyLost):
        await pools.retire(POOL, look())
    assert not world.has_topic
    world.log_answers = True
    await pools.retire(POOL, look())
    assert world.removed


@pytest.mark.parametrize("lag", [pytest.param(1, id="holds a record"), pytest.param(None, id="is not known")])
@pytest.mark.parametrize("queue", queues_of("p"), ids=["its online queue", "its bulk queue"])
async def test_a_pool_stays_while(queue: Queue, lag: int | None) -> None:
    world = World()
    world.lags[queue.topic] = lag
    await retiring(world).retire(POOL, look())
    assert world.has_topic


async def test_nothing_is_removed_while_redis_may_lack_the_report_of_an_ingress_that_lives() -> None:
    world = World()
    await retiring(world).retire(POOL, look(reports_complete=False))
    assert world.has_topic
