"""One look at everything the scaler decides on."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.scaler.deployment import MAX_DEATHS
from services.scaler.lag import LagReader, Lags
from services.scaler.pools import PoolBackend
from services.shared.clock import now_ms
from services.shared.endpoints import ControlState, Pool
from services.shared.errors import DependencyLost
from services.shared.node import ReplicaProcess
from services.shared.presence import IngressReport, ReplicaReport, knows_reporters, read_ingresses, read_replicas

LONGEST_LOOK_S = 5.0  # what was seen longer ago may be another leader's business by now: its session is 6 s


@dataclass(frozen=True, slots=True)
class Look:
    """`now` is monotonic seconds; `nudged` are pools an ingress is about to append to."""

    now: float
    state: ControlState
    processes: Mapping[str, Sequence[ReplicaProcess]]  # by pool id
    reports: Mapping[str, Sequence[ReplicaReport]]  # by pool id; a silent replica has none, nor has one that died
    ingresses: Sequence[IngressReport]
    nudged: frozenset[str]
    reports_complete: bool  # False after a restart of Redis: who has no report may live all the same
    lags: Mapping[str, Lags]  # by pool id

    def require_fresh(self, now: float) -> None:
        """Before each deed. Raises DependencyLost where another scaler may have done it, or otherwise, meanwhile."""
        if now - self.now > LONGEST_LOOK_S:
            raise DependencyLost("A look at the pools took too long to act on it.")

    def staying(self, pool_id: str) -> list[ReplicaProcess]:
        """Replicas of the pool that are asked for and not leaving, ready or not."""
        return [p for p in self.processes[pool_id] if p.state != "stopping" and not p.refusing]

    def able(self, pool_id: str) -> int:
        """Replicas that answer, or will once they have started: neither leaving, nor failed, nor dying again and again."""
        phases = {r.replica_id: r.phase for r in self.reports[pool_id]}

        def can(process: ReplicaProcess) -> bool:
            phase = phases.get(process.replica_id)
            return phase == "ready" or (phase != "failed" and process.deaths < MAX_DEATHS)

        return sum(p.state != "stopping" and can(p) for p in self.processes[pool_id])

    def ready(self, pool_id: str) -> int:
        """Replicas able to answer, refusing hosts included."""
        leaving = {p.replica_id for p in self.processes[pool_id] if p.state == "stopping"}
        return sum(r.phase == "ready" and r.replica_id not in leaving for r in self.reports[pool_id])


async def take_look(
    state: ControlState, pools: Collection[Pool], backend: PoolBackend, redis: Redis, lag: LagReader, now: float, nudged: frozenset[str]
) -> Look:
    """A look at `pools`. Raises DependencyLost or RedisError when a part of the picture is missing."""
    processes: dict[str, list[ReplicaProcess]] = defaultdict(list)
    for process in await backend.replicas():
        processes[process.pool_id].append(process)
    everyone = [process for of_pool in processes.values() for process in of_pool]
    reports: dict[str, list[ReplicaReport]] = defaultdict(list)
    for report in of_the_living(everyone, await read_replicas(redis, [p.replica_id for p in everyone])):
        reports[report.pool_id].append(report)
    ingresses, complete = await read_ingresses(redis, now_ms()), await knows_reporters(redis)
    return Look(now, state, processes, reports, ingresses, nudged, complete, await lag.of_pools(pools))


def of_the_living(processes: Iterable[ReplicaProcess], reports: Iterable[ReplicaReport]) -> list[ReplicaReport]:
    """Without those of processes that died: a report outlives its process by seconds, and the next one has the same id."""
    started = {p.replica_id: p.started_ms for p in processes}
    return [r for r in reports if (since := started.get(r.replica_id)) is not None and r.at_ms >= since]
