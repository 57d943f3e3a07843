"""What goes to the worker together: first come, first served, no timer (design §4). Pure."""

from collections.abc import Sequence

from services.shared.control_events import LANES_PER_REPLICA

MOST_MEMBERS = 128
BULK_BYTES = 256 * 1024  # such a body goes alone, and what it takes says nothing about small ones
LONGEST_S = 1.0  # R13
QUICK_SHARE_S = 0.02
QUICK_LANES = 2
NEWEST_WEIGHT = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 8, 256  # requests


def most_members(share_s: float | None) -> int:
    """How many requests one batch may have by what one is known to take; not knowing allows one."""
    if share_s is None:
        return 1
    return max(1, min(MOST_MEMBERS, int(LONGEST_S / max(share_s, 1e-6))))


def lanes_for(share_s: float | None) -> int:
    """How many batches at once: more only take the interpreter from one another, unless company makes the model no quicker."""
    return LANES_PER_REPLICA if share_s is None or share_s > QUICK_SHARE_S else QUICK_LANES


def choose_batch(sizes_bytes: Sequence[int], share_s: float | None) -> int:
    """How many of those waiting, from the first on, go together; at least one if any waits."""
    taken, total = 0, 0
    for size in sizes_bytes[: most_members(share_s)]:
        total += size
        if taken and total > BULK_BYTES:
            break
        taken += 1
    return taken


def is_bulk(size_bytes: int) -> bool:
    return size_bytes > BULK_BYTES


def next_share_s(known_s: float | None, share_s: float) -> float:
    """Moving average of one member's share of an evaluation. One far slower than known counts at once: a batch must not last."""
    if known_s is None or share_s > known_s * 10:
        return share_s
    return known_s + NEWEST_WEIGHT * (share_s - known_s)


class Company:
    """Whether it is worth sending requests together. After a batch of which none could be, they go one by one for a while, then longer."""

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    @property
    def is_paused(self) -> bool:
        return self._left > 0

    def went_alone(self) -> None:
        """One more request of a pause was sent."""
        self._left -= 1

    def learn(self, scored: int) -> None:
        """So many of a batch were scored together."""
        self._pause = 0 if scored else min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
        self._left = self._pause
