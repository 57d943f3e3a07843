"""How soon a request is a row one can read, and whether a table grows slower with age: `python -m bench freshness`."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from bench.load import Load, Target, open_loop
from bench.models import request_body, saved_model
from bench.penstock import own_stack
from bench.places import BUILT
from services.logger.settings import LoggerSettings
from services.logger.table import Delivery, InferenceTable
from services.shared.envelope import Outcome, new_request_id

LOOK_EVERY_S = 0.25
WARM_UP_S = 5.0
SETTLE_S = 15.0
COMMITS, EDGE, ROWS_A_COMMIT = 2_000, 200, 20


@dataclass(frozen=True, slots=True)
class Freshness:
    """`ages_s`: of each row, from its request's arrival until a reader first saw it, the reader's own look included."""

    load: Load
    ages_s: np.ndarray
    most_files: int
    files: int
    versions: int


class Watcher:
    """Reads what each version of a table adds, as soon as it is there; what compaction only merges is no news."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._live: set[str] = set()
        self._next_version = 0
        self.ages_s: list[np.ndarray] = []
        self.most_files = 0

    @property
    def files(self) -> int:
        return len(self._live)

    @property
    def versions(self) -> int:
        return self._next_version

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            while (log := self._table / "_delta_log" / f"{self._next_version:020}.json").exists():
                self._read([json.loads(line) for line in log.read_text().splitlines()])
                self._next_version += 1

    def _read(self, actions: Sequence[dict[str, Any]]) -> None:
        adds = [action["add"] for action in actions if "add" in action]
        self._live |= {add["path"] for add in adds}
        self._live -= {action["remove"]["path"] for action in actions if "remove" in action}
        self.most_files = max(self.most_files, len(self._live))
        for add in adds:
            if add["dataChange"]:
                times = pq.read_table(self._table / unquote(add["path"]), columns=["request_time"], partitioning=None)["request_time"]
                self.ages_s.append(time.time() - pc.cast(times, "int64").to_numpy() / 1e6)


def run_freshness(console: Console, oha: Path, per_second: float, seconds: float) -> None:
    first, last = commit_times()
    folder, body = saved_model("linear", BUILT / "models"), BUILT / "body.json"
    body.write_bytes(request_body())
    with own_stack() as stack, stack.serving("linear", folder) as endpoint:
        target = Target(stack.url(endpoint), body, token=stack.token)
        open_loop(oha, target, per_second, WARM_UP_S)
        table = stack.table_of(endpoint)
        with Watcher(table) as watcher:
            load = open_loop(oha, target, per_second, seconds)
            time.sleep(SETTLE_S)
    ages_s = np.concatenate(watcher.ages_s)
    show(console, Freshness(load, ages_s, watcher.most_files, watcher.files, watcher.versions), first, last)


def commit_times() -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of each of the first and the last commits of a table's first COMMITS, upkeep included, by the logger's own writer."""
    took = []
    with tempfile.TemporaryDirectory(prefix="pbench") as folder:
        table = InferenceTable(Path(folder) / "main" / "bench" / "t_payload", LoggerSettings())
        for commit in range(COMMITS):
            deliveries = [Delivery(0, commit, outcome()) for _ in range(ROWS_A_COMMIT)]
            began = time.perf_counter()
            table.append(deliveries)
            took.append(time.perf_counter() - began)
    return took[:EDGE], took[-EDGE:]


def outcome() -> Outcome:
    body = request_body().decode()
    now_ms = time.time_ns() // 1_000_000
    return Outcome(new_request_id(), None, "main.bench.t_payload", now_ms, 200, 1, body, '{"predictions": [0]}', (), "0" * 32, "ada", "")


def show(console: Console, found: Freshness, first: Sequence[float], last: Sequence[float]) -> None:
    ages, load = found.ages_s, found.load
    console.print(
        f"{load.requests:,} requests, {load.per_second:,.0f} answered a second over {load.duration_s:.0f} s, {load.failed} failed; "
        f"{len(ages):,} rows seen\n"
        f"a row can be read p50 {np.median(ages):.1f} s, p99 {np.quantile(ages, 0.99):.1f} s, at most {ages.max():.1f} s later\n"
        f"files of the table: {found.files} in the end, {found.most_files} at most, over {found.versions} versions\n"
        f"a commit takes {np.mean(first) * 1e3:.1f} ms in the first {EDGE}, {np.mean(last) * 1e3:.1f} ms in the last {EDGE} of "
        f"{COMMITS:,}, upkeep included: {np.mean(last) / np.mean(first):.2f} ×",
        highlight=False,
        soft_wrap=True,
    )
