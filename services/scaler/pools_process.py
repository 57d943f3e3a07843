"""Replicas as child processes of the node supervisor (R17): a dead scaler leaves them untouched, a new one finds them."""

from collections.abc import Sequence
from itertools import count, islice

from services.shared.node import Node, ReplicaProcess


class ProcessPools:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def replicas(self) -> Sequence[ReplicaProcess]:
        return await self._node.replicas()

    async def resize(self, pool_id: str, replicas: Sequence[ReplicaProcess], target: int) -> None:
        staying = [r for r in replicas if r.state != "stopping" and not r.refusing]
        for replica_id in free_ids(pool_id, {r.replica_id for r in replicas}, target - len(staying)):
            await self._node.start_replica(replica_id, pool_id)
        for leaving in staying[target:]:
            await self._node.stop_replica(leaving.replica_id)

    async def refuse(self, pool_id: str) -> None:
        await self._node.start_replica(f"{pool_id}-refusing", pool_id, refusing=True)

    async def stop(self, replica_id: str) -> None:
        await self._node.stop_replica(replica_id)


def free_ids(pool_id: str, taken: set[str], wanted: int) -> list[str]:
    """The lowest numbered ids that are not taken: the same for two leaders that overlap, so that a replica starts once."""
    return list(islice((i for i in (f"{pool_id}-{n}" for n in count()) if i not in taken), max(0, wanted)))
