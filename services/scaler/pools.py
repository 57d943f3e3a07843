"""The port every pool backend implements; today child processes of the node supervisor, later Kubernetes."""

from collections.abc import Sequence
from typing import Protocol

from services.shared.node import ReplicaProcess


class PoolBackend(Protocol):
    async def replicas(self) -> Sequence[ReplicaProcess]:
        """Every replica there is, of any pool, those that are leaving included. Raises DependencyLost when that is not known."""

    async def resize(self, pool_id: str, replicas: Sequence[ReplicaProcess], target: int) -> None:
        """Start or drain replicas of one pool until `target` are asked for. `replicas` are the pool's own, as last listed."""

    async def refuse(self, pool_id: str) -> None:
        """Have one host without model answer what is left in the pool's topic (R10). A repeat changes nothing."""

    async def stop(self, replica_id: str) -> None:
        """Let one replica drain and leave. A repeat changes nothing."""
