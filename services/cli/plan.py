"""What the supervisor decides, as functions of values: start order, stop order, how long to wait before a restart."""

from collections.abc import Iterable
from enum import StrEnum

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STEADY_AFTER_S = 30.0  # a process that was well this long has recovered: its next death starts from the first pause

TOPICS = "topics"  # no process: the topics that always exist, and the admin token in the control log

_NEEDS = {
    TOPICS: ("kafka",),
    "ingress": (TOPICS, "redis"),
    "submissions": (TOPICS, "redis"),
    "scaler": (TOPICS, "redis"),
    "logger": (TOPICS, "redis"),
}
# What hands work on stops before what takes it; the three servers have nobody left to wait for and go together.
_STOP_ORDER = (("ingress", "submissions"), ("scaler",), ("scorer",), ("logger", "warm"), ("mlflow", "redis", "kafka"))


class ChildState(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    STOPPING = "stopping"
    STOPPED = "stopped"


def kind_of(name: str) -> str:
    """`ingress` of `ingress-0`, `scorer` of `scorer-<replica id>`; a process of which there is one is its own kind."""
    return name.partition("-")[0]


def needs_of(name: str) -> tuple[str, ...]:
    """What must be ready before this may start."""
    return _NEEDS.get(kind_of(name), ())


def stop_waves(names: Iterable[str]) -> list[list[str]]:
    """Groups of processes in drain order; a group goes when the one before it is gone."""
    left = list(names)
    waves = [[name for name in left if kind_of(name) in kinds] for kinds in _STOP_ORDER]
    return [wave for wave in waves if wave]


def failures_in_a_row(before: int, well_s: float) -> int:
    """How many deaths to count after one of a process that had been well for `well_s` seconds."""
    return 1 if well_s >= STEADY_AFTER_S else before + 1


def restart_pause_s(failures: int) -> float:
    """0.2 s after the first death in a row, doubling to 10 s."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 16)))
