"""Stops the logger when it is not single records that are wrong, but whoever writes or reads them. Pure."""

from collections import deque

WINDOW = 40  # records
LEAST = 20  # of them, before anything is said of their share


class Breaker:
    """Open once half of the last records could not be read: putting them all aside would empty the topic into the dead letters."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=WINDOW)

    def saw(self, *, is_good: bool) -> None:
        self._last.append(is_good)

    @property
    def is_open(self) -> bool:
        return len(self._last) >= LEAST and 2 * self._last.count(False) >= len(self._last)
