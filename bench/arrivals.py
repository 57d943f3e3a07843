"""An open loop whose rate changes: requests are due at given moments, whatever the answers do."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

GRID_S = 0.01
PATIENCE_S = 180.0  # longer than any request may wait here: what takes longer is lost


@dataclass(frozen=True, slots=True)
class Answers:
    """One entry a request. `due_s` since the start, rising; `took_s` from when it was due; status 0: there was no answer."""

    due_s: np.ndarray
    took_s: np.ndarray
    status: np.ndarray

    @property
    def failed(self) -> int:
        return int(np.sum(self.status != 200))

    def between(self, first_s: float, last_s: float) -> "Answers":
        chosen = (self.due_s >= first_s) & (self.due_s < last_s)
        return Answers(self.due_s[chosen], self.took_s[chosen], self.status[chosen])

    def quantile_s(self, share: float) -> float:
        """nan when nothing was due."""
        return float(np.quantile(self.took_s, share)) if len(self.took_s) else float("nan")


def due_times(rate: Callable[[float], float], seconds: float) -> np.ndarray:
    """Evenly within the rate: a request is due whenever its integral passes a whole number. `rate` is requests/s at a second."""
    moments = np.arange(0, seconds + GRID_S, GRID_S)
    total = np.concatenate([[0.0], np.cumsum([rate(float(moment)) * GRID_S for moment in moments[:-1]])])
    due: np.ndarray = np.interp(np.arange(1, int(total[-1]) + 1), total, moments)
    return due


def send(url: str, token: str, body: bytes, due_s: Sequence[float] | np.ndarray) -> Answers:
    """Ask at each of those seconds from now; returns when all are answered or given up."""
    return asyncio.run(_send(url, token, body, np.asarray(due_s)))


async def _send(url: str, token: str, body: bytes, due_s: np.ndarray) -> Answers:
    loop, headers = (
        asyncio.get_running_loop(),
        {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    took_s, status = np.zeros(len(due_s)), np.zeros(len(due_s), dtype=int)

    async def ask(index: int, at: float) -> None:
        try:
            async with session.post(url, data=body) as answer:
                await answer.read()
                status[index] = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status[index] = 0
        took_s[index] = loop.time() - at

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session, asyncio.TaskGroup() as group:
        began = loop.time()
        for index, due in enumerate(due_s):
            if (pause_s := began + due - loop.time()) > 0:
                await asyncio.sleep(pause_s)
            group.create_task(ask(index, began + due))
    return Answers(due_s, took_s, status)
