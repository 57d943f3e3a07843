"""What may be committed when the records of a partition finish out of order. Pure."""

from collections import deque


class PartitionOffsets:
    """One partition for as long as it is assigned; a new assignment starts a new one.

    Offsets are taken in ascending order, though not every one of them need exist, and finish in any order.
    """

    def __init__(self) -> None:
        self._taken: deque[int] = deque()
        self._finished: set[int] = set()
        self.last_taken = -1
        self.next_offset: int | None = None  # what may be committed; None before the first taken record has finished

    @property
    def unfinished(self) -> int:
        return len(self._taken) - len(self._finished)

    def take(self, offset: int) -> None:
        """Raises ValueError for an offset that is not above the last one taken."""
        if offset <= self.last_taken:
            raise ValueError(f"offset {offset} was taken after {self.last_taken}")
        self._taken.append(offset)
        self.last_taken = offset

    def finish(self, offset: int) -> None:
        """The record needs no more work: its reply and outcome are acknowledged. A repeat changes nothing."""
        if not self._taken or offset < self._taken[0]:
            return
        self._finished.add(offset)
        while self._taken and self._taken[0] in self._finished:
            done = self._taken.popleft()
            self._finished.remove(done)
            self.next_offset = done + 1
