"""The node supervisor's local socket: newline-delimited JSON, one request and one reply per line (R17).

The supervisor serves it; the scaler starts and stops replicas through it, the command line reads the stack's state.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from services.shared.errors import DependencyLost

SOCKET_NAME = "supervisor.sock"
MAX_SOCKET_PATH = 100  # the kernel's limit is 108 bytes with the terminator
REPLY_TIMEOUT_S = 15.0
MAX_REPLY_BYTES = 16 * 1024 * 1024  # asyncio's own limit of a line is 64 KiB, and a node may have hundreds of replicas


def warm_socket(state: Path, environment: str) -> Path:
    """Where the warm parent of an environment, by its digest, listens while it can fork. Hardly longer than SOCKET_NAME."""
    return state.absolute() / f"warm-{environment[:10]}.sock"


class ReplicaProcess(BaseModel):
    """A replica as the supervisor sees it. `stopping` ones are draining; `backing-off` ones died and will be started again.

    `deaths` are those in a row: a process that was ready for half a minute has recovered from them.
    """

    model_config = ConfigDict(frozen=True)

    replica_id: str
    pool_id: str
    refusing: bool  # a host without model that answers what is left in a retired pool (R10)
    state: Literal["running", "backing-off", "stopping"]
    pid: int | None
    started_ms: int | None  # epoch ms; None while there is no process
    deaths: int = 0
    last_words: str = ""  # the end of its log at the last death, until it has recovered


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

    async def use_environment(self, digest: str) -> str:
        """Say that a model worker of this environment was started; the node keeps a warm parent for those it expects again.

        Returns why this one can have none, or an empty text.
        """
        reply = await self.call({"op": "use_environment", "environment": digest})
        return str(reply["unforkable"])

    async def replicas(self) -> list[ReplicaProcess]:
        reply = await self.call({"op": "replicas"})
        return [ReplicaProcess.model_validate(r) for r in reply["replicas"]]

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises DependencyLost when the supervisor does not answer, or answers that it could not do it."""
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_REPLY_BYTES)
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


class NodeServer:
    """Serves `operations`, by name, at the socket of a state folder while it is entered. Only the folder's owner can connect.

    An operation gets the request and returns the reply's fields; an exception of it is the reply's `error`.
    """

    def __init__(self, state: Path, operations: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        self._path = state.absolute() / SOCKET_NAME
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)  # left by a supervisor that was killed; whoever enters holds the folder's lock
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._answer, self._path)
        finally:
            os.umask(before)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "entered first"
        self._server.close()
        self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._reply(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            return  # the client is gone, or speaks another language: nobody is left to tell
        finally:
            writer.close()

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"ok": True, **self._operations[request["op"]](request)}
        except Exception as error:  # noqa: BLE001  the edge of a request: the client gets the reason
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
