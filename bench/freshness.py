"""How soon a request is a row one can read, and whether a table grows slower with age: `python -m bench freshness`."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.load import Load, Target, open_loop
from bench.models import request_body, saved_model
from bench.penstock import own_stack
from bench.places import BUILT
from bench.table_watch import TableWatch
from services.logger.settings import LoggerSettings
from services.logger.table import Delivery, InferenceTable
from services.shared.envelope import Outcome, new_request_id

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


def run_freshness(console: Console, oha: Path, per_second: float, seconds: float) -> None:
    first, last = commit_times()
    folder, body = saved_model("linear", BUILT / "models"), BUILT / "body.json"
    body.write_bytes(request_body())
    with own_stack() as stack, stack.serving("linear", folder) as endpoint:
        target = Target(stack.url(endpoint), body, token=stack.token)
        open_loop(oha, target, per_second, WARM_UP_S)
        table = stack.table_of(endpoint)
        with TableWatch(table) as watch:
            load = open_loop(oha, target, per_second, seconds)
            time.sleep(SETTLE_S)
    ages_s = np.concatenate(watch.ages_s)
    show(console, Freshness(load, ages_s, watch.most_files, watch.files, watch.versions), first, last)


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
