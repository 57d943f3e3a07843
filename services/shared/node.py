"""The node supervisor's local socket: newline-delimited JSON, one request and one reply per line (R17).

The supervisor serves it; the scaler starts and stops replicas through it, the command line reads the stack's state.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from services.shared.errors import DependencyLost

SOCKET_NAME = "supervisor.sock"
MAX_SOCKET_PATH = 100  # the kernel's limit is 108 bytes with the terminator
REPLY_TIMEOUT_S = 15.0


class ReplicaProcess(BaseModel):
    """A replica as the supervisor sees it. `stopping` ones are draining; `backing-off` ones died and will be started again."""

    model_config = ConfigDict(frozen=True)

    replica_id: str
    pool_id: str
    refusing: bool  # a host without model that answers what is left in a retired pool (R10)
    state: Literal["running", "backing-off", "stopping"]
    pid: int | None
    restarts: int


class Node:
    """Client of one node supervisor. Every call opens its own connection; a call on a dead supervisor is DependencyLost."""

    def __init__(self, state: Path) -> None:
        self._path = state.absolute() / SOCKET_NAME

    async def start_replica(self, replica_id: str, pool_id: str, *, refusing: bool = False) -> None:
        """A repeat for a replica that exists changes nothing."""
        await self.call({"op": "start_replica", "replica_id": replica_id, "pool_id": pool_id, "refusing": refusing})

    async def stop_replica(self, replica_id: str) -> None:
        """Ask the replica to drain and leave; returns at once. A repeat, or an unknown replica, changes nothing."""
        await self.call({"op": "stop_replica", "replica_id": replica_id})

    async def replicas(self) -> list[ReplicaProcess]:
        reply = await self.call({"op": "replicas"})
        return [ReplicaProcess.model_validate(r) for r in reply["replicas"]]

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises DependencyLost when the supervisor does not answer, or answers that it could not do it."""
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    reply: dict[str, Any] = json.loads(await reader.readline())
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError, ValueError) as error:
            raise DependencyLost(f"The node supervisor at {self._path} does not answer.") from error
        if not reply.get("ok"):
            raise DependencyLost(f"The node supervisor refused: {reply.get('error', 'no reason given')}")
        return reply
