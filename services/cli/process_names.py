"""Names of processes and logs for people: those of replicas and builds hold an id of 32 hex digits, which nobody reads or types."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from services.cli.plan import kind_of

REFUSING = "refusing"
_POOL = r"(?P<pool>(?P<endpoint>[0-9a-f]{32})-(?P<entity>.+)-(?P<version>\d+))"
_REPLICA = re.compile(rf"scorer-{_POOL}-(?P<number>\d+|{REFUSING})")
_BUILD = re.compile(rf"build-{_POOL}")


@dataclass(frozen=True, slots=True)
class ReplicaName:
    """The parts of a replica's process name; `number` is `refusing` for the host that answers what is left in a retired pool."""

    endpoint_id: str
    entity: str
    config_version: str
    number: str


def parse_replica(process: str) -> ReplicaName | None:
    """None: not a replica."""
    found = _REPLICA.fullmatch(process)
    return ReplicaName(found["endpoint"], found["entity"], found["version"], found["number"]) if found else None


def short_name(process: str) -> str:
    """`scorer penstock_demo-1 (replica 0)`, `build penstock_demo-1`; every other name is short already."""
    if replica := parse_replica(process):
        return f"scorer {replica.entity} ({REFUSING if replica.number == REFUSING else f'replica {replica.number}'})"
    build = _BUILD.fullmatch(process)
    return f"build {build['entity']}" if build else process


def replica_order(replica: ReplicaName) -> tuple[str, str, int, int]:
    """Sort key: replicas of one served entity together, older configs first, a refusing host last."""
    number = int(replica.number) if replica.number != REFUSING else sys.maxsize
    return replica.entity, replica.endpoint_id, int(replica.config_version), number


def shortened(entity: str, room: int) -> str:
    """`entity` in at most `room` characters (3 at least); its end, the model's version, stays."""
    if len(entity) <= room:
        return entity
    after = max(1, room // 3)
    return f"{entity[: max(1, room - after - 1)]}…{entity[-after:]}"


def names_meant(process: str) -> set[str]:
    """What a person may call it: its whole name, its kind, and for replicas and builds the served entity, the endpoint or the pool."""
    found = _of_a_pool(process)
    pool = {found["entity"], found["endpoint"], found["pool"], process.partition("-")[2]} if found else set()
    return {process, kind_of(process), short_name(process), *pool}


def names_to_offer(processes: Iterable[str]) -> list[str]:
    """The short ones of `names_meant`: kinds and served entities."""
    offered: set[str] = set()
    for process in processes:
        found = _of_a_pool(process)
        offered |= {kind_of(process), found["entity"]} if found else {process}
    return sorted(offered)


def _of_a_pool(process: str) -> re.Match[str] | None:
    return _REPLICA.fullmatch(process) or _BUILD.fullmatch(process)
