"""How the rows of a batch were cut into items: fixed, and in its folder, before the first of them is produced (R18)."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from services.ingress.submissions.record_ids import id_of_rows

CUTS = "cuts"  # the log's name in the folder
PARTS = 16  # of an item that failed: a poison row is alone after three rounds, and a worker dies three times a round


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows `first` to `first + count`, asked of a model at once. What goes into the envelope is fixed with it (R7)."""

    first: int
    count: int
    scored: int  # rows in the body: those of the input that hold one
    round: int  # how often these rows were cut before
    at_ms: int
    pool_id: str
    entity: str
    table: str
    legacy_model: str = ""  # as the envelope's
    sampling_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be cut next, and how often it was before."""

    first: int
    count: int
    round: int


def item_id(batch_id: str, cut: Cut) -> str:
    """The same whenever the cut is produced."""
    return id_of_rows(batch_id, cut.first, cut.count, cut.round, cut.at_ms)


def parts_of(first: int, count: int) -> list[tuple[int, int]]:
    """First row and count of each part that an item is taken apart into; none of no rows."""
    size = max(1, -(-count // PARTS))
    return [(start, min(size, first + count - start)) for start in range(first, first + count, size)]


class CutLog:
    """A line holds cuts that are made at once: all of them or, when its writer was killed, none."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("ab")
        self._file.truncate(_whole_bytes(file))

    def append(self, cuts: Sequence[Cut]) -> None:
        """Returns when the disk has them."""
        self._file.write(json.dumps([astuple(cut) for cut in cuts]).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_cuts(file: Path) -> list[Cut]:
    """In the order they were made; a torn end is not there."""
    if not file.exists():
        return []
    with file.open("rb") as lines:
        return [Cut(*cut) for line in lines if line.endswith(b"\n") for cut in json.loads(line)]


def leaves_of(cuts: Iterable[Cut]) -> list[Cut]:
    """Those that count, by their rows: an item is superseded by the first of its parts, which begins where it began."""
    last = {cut.first: cut for cut in cuts}
    return [last[first] for first in sorted(last)]


def lost_of(cuts: Sequence[Cut]) -> list[Rows]:
    """What was to be cut again when a process died: rows of superseded items that are in no part, for not all parts are cut at once."""
    cut_before = 1 + max((cut.round for cut in cuts), default=0)
    lost, at = [], 0
    for leaf in leaves_of(cuts):
        lost += [Rows(first, count, cut_before) for first, count in parts_of(at, leaf.first - at)]
        at = leaf.first + leaf.count
    return lost


def _whole_bytes(file: Path) -> int:
    content = file.read_bytes()
    return content.rfind(b"\n") + 1
