"""Chooses who scores a request: the served entity by its share, the partition by its load. Pure: the draws come in."""

from collections.abc import Mapping, Sequence

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


def choose_partition(partitions: Sequence[int], in_flight: Mapping[int, int], draws: tuple[float, float]) -> int:
    """The less loaded of two random partitions: near the best choice without a scan (power of two choices)."""
    first, second = partitions[int(draws[0] * len(partitions))], partitions[int(draws[1] * len(partitions))]
    return first if in_flight.get(first, 0) <= in_flight.get(second, 0) else second


def _route_at(routes: Sequence[Route], point: float) -> Route:
    reached = 0
    for route in routes:
        reached += route.traffic_percentage
        if point < reached:
            return route
    raise RequestRejected("No served entity has a share of the traffic.")
