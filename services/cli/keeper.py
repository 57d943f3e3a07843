"""Ends what a killed supervisor leaves behind: `python -I -S keeper.py`, standard library only.

It reads `+<group> <birth>` and `-<group>` lines from the supervisor. End of file means that the supervisor is gone, whatever
killed it: every process group still on the list gets SIGTERM and, after a grace, SIGKILL. The same lines are kept in the
state folder's journal, for the day on which the keeper is killed as well: the next `penstock up` or `down` reads it.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GRACE_S = 8.0


def birth_of(pid: int) -> str:
    """Start time of a process in clock ticks since boot: with the pid it names one process for ever; "" when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def read_groups(lines: Iterable[str]) -> dict[int, str]:
    """The groups that are left when the lines end, with the birth of each leader."""
    groups: dict[int, str] = {}
    for line in lines:
        group, _, birth = line[1:].strip().partition(" ")
        if line.startswith("+"):
            groups[int(group)] = birth
        else:
            groups.pop(int(group), None)
    return groups


def is_ours(group: int, birth: str) -> bool:
    """Something of the group lives, and its number was not given to another process since."""
    now = birth_of(group)
    if now and birth and now != birth:
        return False
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def left_behind(journal: Path) -> dict[int, str]:
    """Groups in the journal of a stack that is gone, keeper and all, whose leader still lives."""
    try:
        with journal.open(encoding="ascii", errors="replace") as file:
            groups = read_groups(file)
    except FileNotFoundError:
        return {}
    return {group: birth for group, birth in groups.items() if birth and birth_of(group) == birth}


def end_groups(groups: dict[int, str]) -> None:
    deadline = time.monotonic() + GRACE_S
    _signal(groups, signal.SIGTERM)
    while any(is_ours(*group) for group in groups.items()) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(groups, signal.SIGKILL)


def _signal(groups: dict[int, str], number: signal.Signals) -> None:
    for group, birth in groups.items():
        if is_ours(group, birth):
            with suppress(OSError):
                os.killpg(group, number)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    end_groups(read_groups(sys.stdin))
