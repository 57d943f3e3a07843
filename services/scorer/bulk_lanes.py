"""Scores bulk work beside online requests, with a model worker of its own that is there only while there is some."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from services.scorer.build_log import DeploymentFailed
from services.scorer.jobs import Job
from services.scorer.lanes import MAX_BACKOFF_S, Lanes
from services.shared.control_events import LANES_PER_REPLICA

IDLE_S = 60.0  # at most twice as long a worker stays without work
FIRST_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class BulkLanes:
    """Online first: nothing is taken while an online request waits for a lane, and the kernel gives the worker what is left over.

    In the online worker an evaluation of 50 ms would hold up whoever comes meanwhile; a process of its own can be interrupted.
    """

    def __init__(self, new_lanes: Callable[[asyncio.Event], Lanes], online: Lanes, freed: asyncio.Event, idle_s: float = IDLE_S) -> None:
        """`freed` is set by `online` and, since they are given it, by the lanes made here."""
        self._new_lanes = new_lanes
        self._online = online
        self._idle_s = idle_s
        self._lanes: Lanes | None = None
        self._held: list[Job] = []  # until the worker is there
        self._wanted = asyncio.Event()
        self.freed = freed
        self._no_start = ""  # why there is no worker yet

    @property
    def in_flight(self) -> int:
        return len(self._held) + (self._lanes.in_flight if self._lanes else 0)

    @property
    def capacity(self) -> int:
        """A model that scores one by one has its lanes for both."""
        if self._online.waiting:
            return 0
        if self._lanes is not None and self._lanes.is_row_wise:
            return self._lanes.capacity
        return LANES_PER_REPLICA - self._online.in_flight

    @property
    def trouble(self) -> str:
        """Why bulk work waits, for the user."""
        reason = self._lanes.trouble if self._lanes is not None else self._no_start
        return f"Bulk work waits. {reason}" if reason else ""

    def submit(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        self._wanted.set()
        if self._lanes is None:
            self._held.extend(jobs)
        else:
            self._lanes.submit(jobs)

    async def run(self) -> None:
        """Start a worker when there is work, end it when there is none; runs until cancelled."""
        while True:
            await self._wanted.wait()
            lanes = await self._started()
            keeping = asyncio.create_task(lanes.keep_alive(), name="keep-bulk-worker-alive")
            self._lanes, held, self._held = lanes, self._held, []
            self._lanes.submit(held)
            try:
                await self._until_idle(lanes)
            finally:
                self._lanes = None
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await lanes.stop()

    async def _until_idle(self, lanes: Lanes) -> None:
        while self._wanted.is_set() or lanes.in_flight:
            self._wanted.clear()
            await asyncio.sleep(self._idle_s)
        log.info("bulk worker ends: there was no bulk work")

    async def _started(self) -> Lanes:
        """The online worker has loaded the same model, so what keeps this one from it may pass: memory, say."""
        pause_s = FIRST_PAUSE_S
        while True:
            lanes = self._new_lanes(self.freed)
            try:
                await lanes.start()
            except DeploymentFailed as error:
                self._no_start = f"The model's process does not start: {error}"
                log.warning("bulk worker cannot be started, trying again", extra={"error": str(error)})
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_BACKOFF_S, pause_s * 2)
            else:
                self._no_start = ""
                return lanes
