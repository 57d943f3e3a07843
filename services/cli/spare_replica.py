"""A replica's process before it is needed: what it imports costs half a second of every wake from zero."""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from services.cli.keeper_link import KeeperLink

MODULE = "services.scorer.spare"
NAME = "scorer-spare"  # of the log of all of them
REST_S = 5.0  # after one was taken, or died: what it is needed for has the processor first
LONG_REST_S = 30.0  # where several are taken at once it is a load that grows, which needs the processor longer

log = logging.getLogger(__name__)


class SpareReplicas:
    """As many as a step of the load takes at once. What was taken is started again one after the other."""

    def __init__(self, spares: Sequence["SpareReplica"]) -> None:
        self._spares = spares

    async def keep(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as keeping:
            for spare in self._spares:
                keeping.create_task(spare.keep(), name="spare-replica")

    def take(self, environment: Mapping[str, str], output: int, descriptors: Mapping[str, int]) -> asyncio.subprocess.Process | None:
        """As a spare's own."""
        return next((process for spare in self._spares if (process := spare.take(environment, output, descriptors))), None)


class SpareReplica:
    """Keeps one while `keep` runs. Its process is the supervisor's child from the start, so that its end is seen as any other's."""

    def __init__(self, environment: Mapping[str, str], log_file: Path, keeper: KeeperLink, rest_s: float = REST_S) -> None:
        """`environment` is what every replica has; `log_file` gets what it says before it is one."""
        self._environment = environment
        self._log_file = log_file
        self._keeper = keeper
        self._rest_s = rest_s
        self._process: asyncio.subprocess.Process | None = None
        self._orders: socket.socket | None = None
        self._taken = asyncio.Event()

    async def keep(self) -> None:
        """Start one, and another a while after it was taken or died, until cancelled."""
        try:
            while True:
                try:
                    await self._start()
                    await self._gone()
                except OSError as error:
                    log.warning("spare replica cannot be started", extra={"reason": str(error)})
                await asyncio.sleep(self._rest_s)
        finally:
            await self._dismiss()

    def take(self, environment: Mapping[str, str], output: int, descriptors: Mapping[str, int]) -> asyncio.subprocess.Process | None:
        """Make it the replica that `environment` describes; `descriptors` are handed over, each under the name of its variable.

        None: there is none, or it cannot be told so much; then it is started as any other process.
        """
        process, orders = self._process, self._orders
        if process is None or orders is None or process.returncode is not None:
            return None
        order = json.dumps({"environment": dict(environment), "descriptors": list(descriptors)}).encode()
        try:
            socket.send_fds(orders, [order], [output, *descriptors.values()])
        except OSError as error:
            log.warning("spare replica cannot be used", extra={"reason": str(error)})
            return None
        orders.close()
        self._process = self._orders = None
        self._taken.set()
        return process

    async def _start(self) -> None:
        self._taken.clear()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message comes whole, or not at all
        ours.setblocking(False)
        with self._log_file.open("ab") as output, theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        self._orders = ours
        self._keeper.add(self._process.pid)

    async def _gone(self) -> None:
        """Until it was taken or died."""
        process = self._process
        assert process is not None, "_start() comes first"
        died, taken = asyncio.create_task(process.wait(), name="spare-exit"), asyncio.create_task(self._taken.wait(), name="spare-taken")
        try:
            await asyncio.wait({died, taken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died.cancel()
            taken.cancel()
            await asyncio.gather(died, taken, return_exceptions=True)
        if not self._taken.is_set():
            log.warning("spare replica died, starting another", extra={"exit": process.returncode, "pause_s": self._rest_s})
            await self._dismiss()

    async def _dismiss(self) -> None:
        """It leaves by itself when its socket ends; while it still imports, that is soon."""
        process, orders, self._process, self._orders = self._process, self._orders, None, None
        if process is None or orders is None:
            return
        orders.close()
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        self._keeper.forget(process.pid)
