"""One look at everything the scaler decides on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.scaler.deployment import MAX_RESTARTS
from services.scaler.pools import PoolBackend
from services.shared.clock import now_ms
from services.shared.endpoints import ControlState
from services.shared.node import ReplicaProcess
from services.shared.presence import IngressReport, ReplicaReport, knows_reporters, read_ingresses, read_replicas


@dataclass(frozen=True, slots=True)
class Look:
    """`now` is monotonic seconds; `nudged` are pools an ingress is about to append to."""

    now: float
    state: ControlState
    processes: Mapping[str, Sequence[ReplicaProcess]]  # by pool id
    reports: Mapping[str, Sequence[ReplicaReport]]  # by pool id; a silent replica has none
    ingresses: Sequence[IngressReport]
    nudged: frozenset[str]
    reports_complete: bool  # False after a restart of Redis: who has no report may live all the same

    def staying(self, pool_id: str) -> list[ReplicaProcess]:
        """Replicas of the pool that are asked for and not leaving, ready or not."""
        return [p for p in self.processes[pool_id] if p.state != "stopping" and not p.refusing]

    def able(self, pool_id: str) -> int:
        """Replicas that answer, or will once they have started: neither leaving, nor failed, nor dying again and again."""
        failed = {r.replica_id for r in self.reports[pool_id] if r.phase == "failed"}
        return sum(p.state != "stopping" and p.replica_id not in failed and p.restarts < MAX_RESTARTS for p in self.processes[pool_id])

    def ready(self, pool_id: str) -> int:
        """Replicas able to answer, refusing hosts included."""
        leaving = {p.replica_id for p in self.processes[pool_id] if p.state == "stopping"}
        return sum(r.phase == "ready" and r.replica_id not in leaving for r in self.reports[pool_id])


async def take_look(state: ControlState, backend: PoolBackend, redis: Redis, now: float, nudged: frozenset[str]) -> Look:
    """Raises DependencyLost or RedisError when a part of the picture is missing."""
    processes: dict[str, list[ReplicaProcess]] = defaultdict(list)
    for process in await backend.replicas():
        processes[process.pool_id].append(process)
    reports: dict[str, list[ReplicaReport]] = defaultdict(list)
    for report in await read_replicas(redis, [p.replica_id for of_pool in processes.values() for p in of_pool]):
        reports[report.pool_id].append(report)
    ingresses = await read_ingresses(redis, now_ms())
    return Look(now, state, processes, reports, ingresses, nudged, await knows_reporters(redis))
