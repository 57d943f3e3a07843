"""What goes to the worker together: first come, first served (design §4). Pure."""

from collections.abc import Sequence

from services.shared.control_events import LANES_PER_REPLICA

MOST_MEMBERS = 128
LARGE_BYTES = 256 * 1024  # such a body goes alone, and what it takes says nothing about small ones
LONGEST_S = 1.0  # R13
NEWEST_WEIGHT = 0.2


def most_members(share_s: float | None) -> int:
    """How many requests one batch may have by what one is known to take; not knowing allows one."""
    if share_s is None:
        return 1
    return max(1, min(MOST_MEMBERS, int(LONGEST_S / max(share_s, 1e-6))))


def row_in_company_s(first_s: float, more_s: float) -> float:
    """What a row takes among as many as a busy pool has in an evaluation: those that make it twice as long, MOST_MEMBERS at most.

    The first row of an evaluation takes `first_s`, each more `more_s`.
    """
    rows = int(min(MOST_MEMBERS, 1 + first_s / max(more_s, 1e-9)))
    return rows_together_s(rows, first_s, more_s) / rows


def rows_together_s(rows: int, first_s: float, more_s: float) -> float:
    return first_s + (rows - 1) * more_s


def lanes_for(waits: bool) -> int:
    """How many batches at once: all lanes for a model that waits, one for one that computes.

    Two would only take the interpreter from one another: of a forest of 500 trees, 62 ms each instead of 27 one after the other.
    """
    return LANES_PER_REPLICA if waits else 1


def choose_batch(sizes_bytes: Sequence[int], share_s: float | None) -> int:
    """How many of those waiting, from the first on, go together; at least one if any waits."""
    taken, total = 0, 0
    for size in sizes_bytes[: most_members(share_s)]:
        total += size
        if taken and total > LARGE_BYTES:
            break
        taken += 1
    return taken


def is_large(size_bytes: int) -> bool:
    return size_bytes > LARGE_BYTES


def next_share_s(known_s: float | None, share_s: float) -> float:
    """Moving average of one member's share of an evaluation. One far slower than known counts at once: a batch must not last."""
    if known_s is None or share_s > known_s * 10:
        return share_s
    return known_s + NEWEST_WEIGHT * (share_s - known_s)
