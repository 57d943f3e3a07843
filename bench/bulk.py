"""What bulk work costs those who ask online, and what it gets: `python -m bench bulk`."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.cpu import HOPS, CpuTimes, cpu_times, hop_costs
from bench.idle_work import idle_work, slowdown_beside_a_busy_core
from bench.load import Load, Target, open_loop
from bench.models import COLUMNS, request_body, saved_model
from bench.penstock import Stack, own_stack
from bench.places import BUILT

LOCAL_ROWS_AT_ONCE = 10_000  # as Arrow hands them to `mlflow.pyfunc.spark_udf`
SETTLE_S = 3.0
WARM_UP_S = 45.0  # a broker that has just begun compiles itself meanwhile, on the cores of all
PATIENCE_S = 900.0
BULK_SETTINGS: Mapping[str, str] = {"PENSTOCK_SCALER_IDLE_TO_ZERO_S": "3600"}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that has ended. `scoring_s` is from its first row settled to its last, `whole_s` from submission to results."""

    rows: int
    failed: int
    scoring_s: float
    whole_s: float

    @property
    def per_second(self) -> float:
        return self.rows / self.scoring_s


@dataclass(frozen=True, slots=True)
class Busy:
    """Cores that were busy, hop by hop; `tool` is what made the load."""

    hops: Mapping[str, float]
    tool: float = 0.0

    @property
    def cores(self) -> float:
        return sum(self.hops.values()) + self.tool


@dataclass(frozen=True, slots=True)
class Found:
    before: Load
    beside: Load
    beside_idle: Load  # nothing of Penstock's: as many processes as there are cores that only count, behind all others
    after: Load
    alone: Batch
    shared: Batch
    online_busy: Busy
    bulk_busy: Busy
    both_busy: Busy
    local_per_second: float
    cores: int
    slowdown: float | None  # of a loop, when the processor beside its own is busy

    def p99_ratio(self, load: Load) -> float:
        """To what it is alone."""
        return load.p99_ms / ((self.before.p99_ms + self.after.p99_ms) / 2)

    @property
    def share_of_rest(self) -> float:
        """Bulk rows/s beside online requests, of what the cores that those leave would score: all it ever has, if they leave that many."""
        left = min(1.0, (self.cores - self.online_busy.cores) / self.bulk_busy.cores)
        return self.shared.per_second / (self.alone.per_second * left)

    @property
    def batch_lasts(self) -> bool:
        """Else some of the requests that count as beside bulk work had the machine to themselves."""
        return self.shared.scoring_s >= self.beside.duration_s


class Meter:
    """Cores that a stack keeps busy, from `start` on. Its processes are looked up once: to ask for them takes time itself."""

    def __init__(self, stack: Stack) -> None:
        self._status = stack.status()
        self._began: CpuTimes = {}
        self._began_at = 0.0

    def start(self) -> None:
        self._began, self._began_at = cpu_times(self._status), time.monotonic()

    def busy(self, tool_cpu_s: float = 0.0) -> Busy:
        seconds = time.monotonic() - self._began_at
        costs = hop_costs(self._began, cpu_times(self._status))
        return Busy({cost.hop: cost.cpu_s / seconds for cost in costs}, tool_cpu_s / seconds)


def run_bulk(console: Console, oha: Path, model: str, rows: int, per_second: float, seconds: float) -> None:
    """Online alone, bulk alone, both, online beside idle work, alone again; and the same rows in one process without Penstock."""
    folder, body, table = saved_model(model, BUILT / "models"), BUILT / "body.json", BUILT / f"rows-{rows}.parquet"
    body.write_bytes(request_body())
    if not table.exists():
        rows_of(rows).to_parquet(table)
    local, cores, slowdown = local_per_second(folder, table), os.cpu_count() or 1, slowdown_beside_a_busy_core()
    with own_stack(BULK_SETTINGS) as stack, stack.serving(model, folder) as endpoint:
        target = Target(stack.url(endpoint), body, token=stack.token)
        meter = Meter(stack)
        console.print("each part takes a while: online alone, bulk alone, both, online beside idle work, online alone")

        def online() -> tuple[Load, Busy]:
            meter.start()
            load = open_loop(oha, target, per_second, seconds)
            return load, meter.busy(load.tool_cpu_s)

        open_loop(oha, target, per_second, WARM_UP_S)
        before, online_busy = online()
        alone, bulk_busy = score(stack, endpoint, table, meter)
        shared, (beside, both_busy) = score_beside(stack, endpoint, table, online)
        time.sleep(SETTLE_S)
        with idle_work(cores):
            beside_idle, _ = online()
        after, _ = online()
    found = Found(before, beside, beside_idle, after, alone, shared, online_busy, bulk_busy, both_busy, local, cores, slowdown)
    show(console, model, per_second, found)


def rows_of(count: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(7).normal(size=(count, len(COLUMNS))), columns=COLUMNS)


def local_per_second(folder: Path, table: Path) -> float:
    """Rows/s of the model alone, in this process, read and asked as a batch job does."""
    model, began = mlflow.pyfunc.load_model(str(folder)), time.perf_counter()
    frame = pd.read_parquet(table)
    for first in range(0, len(frame), LOCAL_ROWS_AT_ONCE):
        model.predict(frame.iloc[first : first + LOCAL_ROWS_AT_ONCE])
    return len(frame) / (time.perf_counter() - began)


def score(stack: Stack, endpoint: str, table: Path, meter: Meter | None = None) -> tuple[Batch, Busy]:
    """Submit and wait. `meter` measures from the first row settled to the last; raises AssertionError for a batch that failed."""
    with httpx.Client(base_url=stack.host, headers={"Authorization": f"Bearer {stack.token}"}, timeout=300) as client:
        began, batch_id = time.monotonic(), submit(client, endpoint, table)
        first_at = wait(client, endpoint, batch_id, lambda seen: _settled(seen) > 0 or _ended(seen))
        if meter is not None:
            meter.start()
        last_at = wait(client, endpoint, batch_id, lambda seen: 0 < seen["counts"]["rows"] == _settled(seen) or _ended(seen))
        busy = meter.busy() if meter is not None else Busy({})
        ended_at = wait(client, endpoint, batch_id, _ended)
        seen = client.get(_path(endpoint, batch_id)).json()
    assert seen["state"] == "SUCCEEDED", seen
    return Batch(seen["counts"]["rows"], seen["counts"]["failed"], max(1e-3, last_at - first_at), ended_at - began), busy


def score_beside(stack: Stack, endpoint: str, table: Path, online: Callable[[], tuple[Load, Busy]]) -> tuple[Batch, tuple[Load, Busy]]:
    """The batch and the online load at once: the load begins when the first row is settled."""
    batches: list[Batch] = []
    scoring = Thread(target=lambda: batches.append(score(stack, endpoint, table)[0]))
    with httpx.Client(base_url=stack.host, headers={"Authorization": f"Bearer {stack.token}"}, timeout=60) as client:
        known = {seen["batch_id"] for seen in client.get(_path(endpoint)).json()["batches"]}
        scoring.start()
        give_up_at = time.monotonic() + PATIENCE_S
        while not any(_settled(seen) for seen in client.get(_path(endpoint)).json()["batches"] if seen["batch_id"] not in known):
            assert time.monotonic() < give_up_at, "no row was scored"
            time.sleep(0.2)
        found = online()
    scoring.join()
    assert batches, "the batch has failed"
    return batches[0], found


def submit(client: httpx.Client, endpoint: str, table: Path) -> str:
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    with table.open("rb") as rows:
        taken = client.post(_path(endpoint), content=rows, headers=headers)
    batch_id: str = taken.raise_for_status().json()["batch_id"]
    return batch_id


def wait(client: httpx.Client, endpoint: str, batch_id: str, until: Any) -> float:
    """The moment, in monotonic seconds, when it was seen."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not until(client.get(_path(endpoint, batch_id)).raise_for_status().json()):
        assert time.monotonic() < give_up_at, f"batch {batch_id} does not go on"
        time.sleep(0.2)
    return time.monotonic()


def _ended(seen: Mapping[str, Any]) -> bool:
    return "end_timestamp" in seen


def _settled(seen: Mapping[str, Any]) -> int:
    settled: int = seen["counts"]["succeeded"] + seen["counts"]["failed"]
    return settled


def _path(endpoint: str, batch_id: str = "") -> str:
    return f"/api/2.0/serving-endpoints/{endpoint}/batches" + (f"/{batch_id}" if batch_id else "")


def show(console: Console, model: str, per_second: float, found: Found) -> None:
    online = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in (f"{per_second:g} online requests/s", "p50 ms", "p99 ms", "failed"):
        online.add_column(title, justify="left" if "online" in title else "right")
    loads = {"alone": found.before, "beside bulk work": found.beside, "beside idle work": found.beside_idle, "alone, after it": found.after}
    for name, load in loads.items():
        online.add_row(name, f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", str(load.failed))
    bulk = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in (f"{found.alone.rows:,} rows of {model}", "rows/s", "s from submission", "rows failed"):
        bulk.add_column(title, justify="left" if "rows of" in title else "right")
    for name, batch in (("alone", found.alone), ("beside online requests", found.shared)):
        bulk.add_row(name, f"{batch.per_second:,.0f}", f"{batch.whole_s:.0f}", str(batch.failed))
    bulk.add_row("one process without Penstock", f"{found.local_per_second:,.0f}", "", "")
    busy = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("cores busy", "online alone", "bulk alone", "both"):
        busy.add_column(title, justify="left" if title == "cores busy" else "right")
    seen = (found.online_busy, found.bulk_busy, found.both_busy)
    for hop in HOPS:
        busy.add_row(hop, *(f"{one.hops.get(hop, 0.0):.2f}" for one in seen))
    busy.add_row("load tool", *(f"{one.tool:.2f}" for one in seen))
    for table in (online, bulk, busy):
        console.print(table)
        console.print()
    console.print(
        f"online p99 beside bulk work: {found.p99_ratio(found.beside):.2f} × alone, beside {found.cores} idle-class processes that only "
        f"count {found.p99_ratio(found.beside_idle):.2f} ×; of {found.cores} cores "
        f"online alone keeps {found.online_busy.cores:.2f} busy, bulk work alone {found.bulk_busy.cores:.2f}; "
        f"beside online requests it gets {found.share_of_rest:.0%} of what they leave it",
        highlight=False,
        soft_wrap=True,
    )
    if found.slowdown is not None:
        told = f"a loop that shares nothing with it takes {found.slowdown:.2f} × as long on one processor while the one beside it counts"
        console.print(told, highlight=False, soft_wrap=True)
    if not found.batch_lasts:
        console.print("the batch ended before the requests beside it: take more rows, or fewer seconds")
