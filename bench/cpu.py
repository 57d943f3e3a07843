"""CPU time of each hop: its processes' user and system time, sampled before and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

HOPS = (
    "ingress", "submissions", "scorer host", "model worker", "warm parents", "kafka", "redis", "logger", "scaler", "mlflow", "supervisor",
)  # fmt: skip
_HOP_OF_KIND = {"scorer": "scorer host", "warm": "warm parents"}
_PARENTS_OF_WORKERS = ("scorer host", "warm parents")

CpuTimes = dict[tuple[str, int], float]  # (hop, pid) → seconds since the process began


@dataclass(frozen=True, slots=True)
class HopCost:
    """`processes` seen at the end of the interval."""

    hop: str
    cpu_s: float
    processes: int


def cpu_times(status: Mapping[str, Any]) -> CpuTimes:
    """CPU seconds of every process of a stack, by what `penstock status --json` says of it."""
    times: CpuTimes = {}
    for process in status["processes"]:
        if process["pid"] is None:
            continue
        kind = process["name"].partition("-")[0]
        hop = _HOP_OF_KIND.get(kind, kind)
        _add(times, hop, "model worker" if hop in _PARENTS_OF_WORKERS else hop, process["pid"])
    known = {pid for _, pid in times}
    supervisor = psutil.Process(status["supervisor"])
    for process in (supervisor, *supervisor.children()):  # its keeper, too
        if process.pid not in known:
            times["supervisor", process.pid] = _cpu_s(process)
    return times


def family_cpu_times(pid: int, name: str) -> CpuTimes:
    """CPU seconds of a process and all that it started, all as the one hop `name`."""
    times: CpuTimes = {}
    _add(times, name, name, pid)
    return times


def hop_costs(before: CpuTimes, after: CpuTimes) -> list[HopCost]:
    """What each hop used meanwhile, in the order of `HOPS`; a process that began meanwhile counts whole, one that ended not at all."""
    costs = []
    for hop in HOPS:
        mine = {key: cpu_s for key, cpu_s in after.items() if key[0] == hop}
        costs.append(HopCost(hop, used_s(before, mine), len(mine)))
    return costs


def used_s(before: CpuTimes, after: CpuTimes) -> float:
    """What all of them used meanwhile; processes count as in `hop_costs`."""
    return sum(cpu_s - before.get(key, 0.0) for key, cpu_s in after.items())


def per_request_us(cpu_s: float, requests: int) -> float:
    return cpu_s / requests * 1e6 if requests else 0.0


def cores_needed(cpu_s: float, requests: int, per_second: float) -> float:
    """Cores that are busy all the time at that rate, if a request goes on costing what it cost here."""
    return cpu_s / requests * per_second if requests else 0.0


def _add(times: CpuTimes, hop: str, hop_of_children: str, pid: int) -> None:
    try:
        process = psutil.Process(pid)
        times[hop, pid] = _cpu_s(process)
        for child in process.children(recursive=True):
            times[hop_of_children, child.pid] = _cpu_s(child)
    except psutil.NoSuchProcess:
        return  # it ended while we looked


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
