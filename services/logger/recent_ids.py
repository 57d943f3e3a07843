"""The dedupe window: which request ids are surely in the table, which surely are not, and which must be looked up. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from enum import Enum, auto
from uuid import UUID

BUCKET_MS = 1_000


class Seen(Enum):
    NEW = auto()
    REPEAT = auto()
    UNKNOWN = auto()  # older than the window: only the table knows


class RecentIds:
    """Every id of one table that is not older than `floor_ms`, by the time inside the UUIDv7 (R5).

    The floor rises with the clock and, so that memory stays bounded, with the number of ids; it never falls. An id that is no
    UUIDv7 has no time, so it counts as older than any window.
    """

    def __init__(self, floor_ms: int, max_ids: int) -> None:
        self.floor_ms = floor_ms
        self._max_ids = max_ids
        self._ids: dict[int, set[bytes]] = defaultdict(set)  # by the second they were made in
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def look(self, request_id: str) -> Seen:
        made_ms, key = parse_id(request_id)
        if made_ms < self.floor_ms:
            return Seen.UNKNOWN
        return Seen.REPEAT if key in self._ids.get(made_ms // BUCKET_MS, ()) else Seen.NEW

    def remember(self, request_ids: Iterable[str]) -> None:
        """Ids that are in the table now. A repeat changes nothing; an id below the floor is not kept."""
        for request_id in request_ids:
            made_ms, key = parse_id(request_id)
            bucket = self._ids[made_ms // BUCKET_MS] if made_ms >= self.floor_ms else None
            if bucket is not None and key not in bucket:
                bucket.add(key)
                self._count += 1
        while self._count > self._max_ids:
            self.forget_before((min(self._ids) + 1) * BUCKET_MS)

    def forget_before(self, floor_ms: int) -> None:
        """Raise the floor to the bucket that `floor_ms` lies in; a lower one than today's changes nothing."""
        floor_ms -= floor_ms % BUCKET_MS
        self.floor_ms = max(self.floor_ms, floor_ms)
        for second in [second for second in self._ids if (second + 1) * BUCKET_MS <= self.floor_ms]:
            self._count -= len(self._ids.pop(second))


def parse_id(request_id: str) -> tuple[int, bytes]:
    """Epoch ms inside a UUIDv7 (0 for anything else, RFC 9562 §5.7) and a compact key for the id."""
    try:
        parsed = UUID(request_id)
    except ValueError:
        return 0, request_id.encode()
    return (parsed.int >> 80 if parsed.version == 7 else 0), parsed.bytes


def least_id(made_ms: int) -> str:
    """No UUIDv7 made at `made_ms` or later sorts before this string."""
    digits = f"{max(0, made_ms):012x}"
    return f"{digits[:8]}-{digits[8:]}"
