"""What became of a batch's items: an append-only file of its folder, read when its results are written.

with SettledLog(folder / "settled") as log:   # a torn end of a process that was killed is cut off
    log.append(Settled(first=0, count=500, status=200, body=answer, served_entity="churn-3"))
    log.sync()                                # before the offsets of what was read are committed
"""

import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgpack

_LENGTH = 4  # bytes before each record, that say how long it is


@dataclass(frozen=True, slots=True)
class Settled:
    """The last word on rows `first` to `first + count`: the answer to all that have no fault, or the error of each.

    An item that was taken apart has none; its parts have. A repeat changes nothing: the first one counts.
    """

    first: int
    count: int
    status: int
    body: bytes  # the answer's; its error envelope unless `status` is 200
    served_entity: str  # its name, or "" where none was asked


class SettledLog:
    def __init__(self, file: Path) -> None:
        self._file = file.open("ab")
        self._file.truncate(_whole_bytes(file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def append(self, settled: Settled) -> None:
        record = msgpack.packb(astuple(settled))
        self._file.write(len(record).to_bytes(_LENGTH, "big") + record)

    def sync(self) -> None:
        """Returns when the disk has all that was appended."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_settled(file: Path) -> Iterator[Settled]:
    """In the order they were appended; a torn end is not there."""
    if not file.exists():
        return
    with file.open("rb") as content:
        while record := _next(content):
            yield Settled(*msgpack.unpackb(record))


def in_order(file: Path) -> Iterator[Settled]:
    """By their rows, one each. Of all of them only the places are in memory."""
    if not file.exists():
        return
    places: dict[int, int] = {}
    with file.open("rb") as content:
        at = 0
        while record := _next(content):
            places.setdefault(Settled(*msgpack.unpackb(record)).first, at)
            at = content.tell()
        for _, place in sorted(places.items()):
            content.seek(place)
            yield Settled(*msgpack.unpackb(_next(content)))


def _next(content: IO[bytes]) -> bytes:
    """Empty at the end."""
    head = content.read(_LENGTH)
    length = int.from_bytes(head, "big")
    record = content.read(length)
    return record if len(head) == _LENGTH and len(record) == length else b""


def _whole_bytes(file: Path) -> int:
    with file.open("rb") as content:
        at = 0
        while _next(content):
            at = content.tell()
        return at
