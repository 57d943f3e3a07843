"""Steady load over HTTP, the ledger of what came back, and its join with the Delta table."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from deltalake import DeltaTable

ROWS_TIMEOUT_S = 60.0


@dataclass
class Sent:
    """One request as its client saw it. `status` None: the connection broke, so what became of it is not known."""

    client_request_id: str
    x: float
    status: int | None = None
    body: str = ""
    prediction: float | None = None
    request_id: str | None = None
    latency_s: float = 0.0
    retry_after: str | None = None


@dataclass
class Ledger:
    sent: list[Sent] = field(default_factory=list)

    def answered(self) -> list[Sent]:
        return [s for s in self.sent if s.status is not None]

    def not_ok(self) -> list[Sent]:
        return [s for s in self.answered() if s.status != 200]

    def broken(self) -> list[Sent]:
        return [s for s in self.sent if s.status is None]

    def wrong(self, right: Callable[[float], set[float]]) -> list[Sent]:
        return [s for s in self.sent if s.status == 200 and s.prediction not in right(s.x)]


@dataclass(frozen=True)
class Verdict:
    """What every fault test prints; all but the first must be 0."""

    answered: int
    lost: int
    wrong: int
    missing_rows: int
    duplicate_rows: int
    other_rows: int  # rows whose status or body is not what the client got, or for an id never sent

    def __str__(self) -> str:
        return (
            f"answered {self.answered}, lost {self.lost}, wrong {self.wrong}, missing rows {self.missing_rows}, "
            f"duplicate rows {self.duplicate_rows}, other rows {self.other_rows}"
        )

    @property
    def clean(self) -> bool:
        return not (self.lost or self.wrong or self.missing_rows or self.duplicate_rows or self.other_rows)


class Load:
    """Closed-loop clients that score until told to stop: `async with Load(...) as load: <break things>`."""

    def __init__(self, url: str, token: str, clients: int = 4, pause_s: float = 0.02, params: dict[str, float] | None = None) -> None:
        self.ledger = Ledger()
        self._url = url
        self._token = token
        self._clients = clients
        self._pause_s = pause_s
        self._params = params or {}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client(i), name=f"client-{i}") for i in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def answers(self, count: int) -> None:
        """Wait until `count` more requests were answered."""
        goal = len(self.ledger.answered()) + count
        while len(self.ledger.answered()) < goal:
            await asyncio.sleep(0.05)

    async def _client(self, number: int) -> None:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {self._token}"}, timeout=150) as client:
            turn = 0
            while not self._stop.is_set():
                sent = Sent(f"c{number}-{turn}", x=float(random.randrange(1, 600)))
                self.ledger.sent.append(sent)
                await score(client, self._url, sent, self._params)
                turn += 1
                await asyncio.sleep(self._pause_s)


async def score(client: httpx.AsyncClient, url: str, sent: Sent, params: dict[str, float] | None = None) -> None:
    body: dict[str, Any] = {"client_request_id": sent.client_request_id, "dataframe_split": {"columns": ["x"], "data": [[sent.x]]}}
    if params:
        body["params"] = params
    started = time.monotonic()
    try:
        answer = await client.post(url, json=body)
    except httpx.TransportError:
        return
    sent.latency_s = time.monotonic() - started
    sent.status, sent.body, sent.request_id = answer.status_code, answer.text, answer.headers.get("x-request-id")
    if answer.status_code == 200:
        sent.prediction = answer.json()["predictions"][0]


async def judge(ledger: Ledger, table: Path, right: Callable[[float], set[float]], *, may_break: bool = False) -> Verdict:
    """Join the ledger with the table, waiting for the rows of what was answered.

    Requests whose connection broke count as lost unless `may_break`; they may have one row or none.
    """
    accepted = {s.request_id: s for s in ledger.answered() if s.request_id}
    rows = await _rows_of(table, set(accepted))
    counts = Counter(row["databricks_request_id"] for row in rows)
    known = {s.client_request_id for s in ledger.sent}
    other = [row for row in rows if not _agrees(row, accepted.get(row["databricks_request_id"]), known)]
    return Verdict(
        answered=len(ledger.answered()),
        lost=0 if may_break else len(ledger.broken()),
        wrong=len(ledger.wrong(right)),
        missing_rows=len(accepted.keys() - counts.keys()),
        duplicate_rows=sum(count - 1 for count in counts.values()),
        other_rows=len(other),
    )


def _agrees(row: dict[str, Any], sent: Sent | None, known: set[str]) -> bool:
    if sent is None:
        return row["client_request_id"] in known
    return (row["status_code"], row["response"], row["client_request_id"]) == (sent.status, sent.body, sent.client_request_id)


async def _rows_of(table: Path, wanted: set[str]) -> list[dict[str, Any]]:
    """The table's rows, once it holds all that is wanted or patience ends."""
    give_up_at = time.monotonic() + ROWS_TIMEOUT_S
    while True:
        rows: list[dict[str, Any]] = []
        if (table / "_delta_log").exists():
            rows = DeltaTable(table).to_pyarrow_table().to_pylist()
        if wanted <= {row["databricks_request_id"] for row in rows} or time.monotonic() > give_up_at:
            return rows
        await asyncio.sleep(0.5)
