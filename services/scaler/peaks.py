"""What a pool has needed lately, so that it shrinks to no less."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Peaks:
    """`now` is monotonic seconds throughout. Kept falling: what a later and larger need outlives is forgotten at once."""

    needs: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, need: int, window_s: float) -> int:
        """Returns the largest need of the last `window_s`, this one included."""
        while self.needs and self.needs[-1][1] <= need:
            self.needs.pop()
        self.needs.append((now, need))
        while self.needs[0][0] < now - window_s:
            self.needs.popleft()
        return self.needs[0][1]
