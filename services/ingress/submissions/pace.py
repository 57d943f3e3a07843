"""How many rows the next item holds, how many items may be open, and when a batch will have ended. Pure."""

from collections import deque
from dataclasses import dataclass, replace

ITEM_MS = 50.0  # an online request that meets an item waits about so long (R18)
MAX_BODY_BYTES = 512 * 1024
FIRST_ROWS = 8
MOST_ROWS = 50_000
FIRST_OPEN = 4  # items, until it is seen what they take
MOST_OPEN = 256
AHEAD_S = 1.0
QUICKEST_MS = 0.5  # what is told in whole milliseconds may be 0
NEWEST_WEIGHT = 0.3
GROWTH = 4.0  # at most, of what was seen
MEMORY = 0.1  # weight of the newest in the means
LEAST_SPREAD = 0.1  # of sizes, for a line through them
LEAST_SLOPE = 0.01  # of what a row takes on the average
RATE_WINDOW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows an item should hold, by what earlier ones took; of the first, few.

    A call costs something, and each row does: where the call alone takes as long as an item should, small items would be nothing
    but calls. So an item may take twice what its call costs. Both costs are a line through what was seen, by least squares.
    """

    rows: float = FIRST_ROWS
    seen: int = 0  # items
    call_ms: float = 0.0
    x: float = 0.0  # weighted means: of rows, of ms, of the squares of rows, of their products
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def after(self, rows: int, took_ms: int) -> "Pace":
        ms, weight = max(QUICKEST_MS, took_ms), max(MEMORY, 1 / (self.seen + 1))
        x, y = self.x + weight * (rows - self.x), self.y + weight * (ms - self.y)
        xx, xy = self.xx + weight * (rows * rows - self.xx), self.xy + weight * (rows * ms - self.xy)
        spread = xx - x * x
        if spread > (LEAST_SPREAD * x) ** 2:
            row_ms = max(LEAST_SLOPE * y / x, (xy - x * y) / spread)
            call_ms = max(0.0, y - row_ms * x)
        else:  # all were of a size: a line may have any slope
            call_ms = min(self.call_ms, ms * (1 - LEAST_SLOPE))
            row_ms = (ms - call_ms) / rows
        fitting = (max(ITEM_MS, 2 * call_ms) - call_ms) / row_ms
        step = min(GROWTH * rows, max(rows / GROWTH, fitting)) - self.rows
        wanted = self.rows + (1.0 if self.seen < FIRST_OPEN else NEWEST_WEIGHT) * step
        return Pace(min(MOST_ROWS, max(1.0, wanted)), self.seen + 1, call_ms, x, y, xx, xy)

    def after_failure(self) -> "Pace":
        """Which says nothing of how long an evaluation is."""
        return replace(self, seen=self.seen + 1)

    @property
    def rows_of_next(self) -> int:
        return int(self.rows)

    @property
    def evaluation_ms(self) -> float:
        """What items take, on the average; 0 while nothing is known."""
        return self.y


class Ahead:
    """How many items may be open: few at first, then as many as are answered in a second, or while two of them are evaluated.

    So the lanes of a large pool are filled, and yet no item waits long behind others that were cut before more was known.
    """

    def __init__(self) -> None:
        self._answered: deque[float] = deque(maxlen=MOST_OPEN)  # when the last ones were, in monotonic seconds

    def answered(self, now_s: float) -> None:
        self._answered.append(now_s)

    def most_open(self, now_s: float, evaluation_ms: float) -> int:
        since = now_s - max(AHEAD_S, 2 * evaluation_ms / 1000)
        return min(MOST_OPEN, FIRST_OPEN + sum(at >= since for at in self._answered))


class Foresight:
    """Tells when all rows will be settled, by how many were in the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()  # epoch ms, rows settled until then

    def estimated_end_ms(self, now_ms: int, rows: int, settled: int) -> int | None:
        """None while nothing is known, and when nothing is left but to write the results."""
        self._seen.append((now_ms, settled))
        while now_ms - self._seen[0][0] > RATE_WINDOW_MS and len(self._seen) > 2:
            self._seen.popleft()
        since_ms, before = self._seen[0]
        if settled in (before, rows) or now_ms == since_ms:
            return None
        return now_ms + round((rows - settled) * (now_ms - since_ms) / (settled - before))
