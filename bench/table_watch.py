"""Sees when the rows of an inference table can be read, and of how many files it is."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

LOOK_EVERY_S = 0.25


class TableWatch:
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

    def __enter__(self) -> "TableWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
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
