"""Chooses who scores a request: the served entity by its share, the partition by its replica's load. Pure: the draw comes in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.shared.control_events import Route
from services.shared.endpoints import Config, ServedEntity
from services.shared.errors import EndpointNotFound, RequestRejected


def choose_entity(config: Config, draw: float) -> ServedEntity:
    """The entity whose share of 100 % covers `draw` (0 ≤ draw < 1); shares are laid end to end in the order of the routes."""
    return config.entities[_route_at(config.spec.routes, draw * 100).entity]


def named_entity(config: Config, endpoint: str, name: str) -> ServedEntity:
    """The entity a `…/served-models/{name}/invocations` path names, whatever its share. Raises EndpointNotFound."""
    entity = config.entities.get(name)
    if entity is None:
        missing = EndpointNotFound(endpoint)
        missing.message = f"Endpoint '{endpoint}' has no served model with name '{name}'."
        raise missing
    return entity


@dataclass(slots=True)
class PartitionTraffic:
    """What a process knows of one partition of a pool."""

    in_flight: int = 0  # requests of this process
    turn: int = 0  # the number of the request that went there last
    replica: str = ""  # who answered from it last; "": nobody yet


def choose_partition(partitions: Sequence[int], traffic: Mapping[int, PartitionTraffic]) -> int:
    """One of the replica with the fewest requests in flight; of equals that whose last turn is longest ago, and so among its partitions.

    A partition that nobody has answered from yet counts as a replica of its own: it gets its turn, and the answer tells whose it is.
    With four replicas two thirds busy, evaluations of 50 ms have a p99 of 69 ms in a simulation; the less loaded of two random
    partitions, which needs to know no owners, gives 93 ms.
    """
    loads: dict[str | int, list[int]] = {}
    for partition in partitions:
        seen = traffic[partition]
        load = loads.setdefault(seen.replica or partition, [0, 0])
        load[0] += seen.in_flight
        load[1] = max(load[1], seen.turn)
    chosen = min(loads, key=loads.__getitem__)
    own = (p for p in partitions if (traffic[p].replica or p) == chosen)
    return min(own, key=lambda p: (traffic[p].in_flight, traffic[p].turn))


def _route_at(routes: Sequence[Route], point: float) -> Route:
    reached = 0
    for route in routes:
        reached += route.traffic_percentage
        if point < reached:
            return route
    raise RequestRejected("No served entity has a share of the traffic.")
