"""Specs and events for the tests of what folds over the control log."""

from services.shared.control_events import (
    ConfigRequested,
    ConfigSpec,
    ControlEvent,
    EndpointCreated,
    EntityFailed,
    EntityReady,
    EntitySpec,
    Route,
)
from services.shared.endpoints import ControlState, apply_event


def config(*versions: str, shares: tuple[int, ...] = (), names: tuple[str, ...] = ("a", "b", "c")) -> ConfigSpec:
    """One entity per model version, named a, b, …; by default the first one gets all traffic."""
    entities = tuple(EntitySpec(name=name, model_name="churn", model_version=v) for name, v in zip(names, versions, strict=False))
    shares = shares or (100,) + (0,) * (len(entities) - 1)
    routes = tuple(Route(entity=e.name, traffic_percentage=share) for e, share in zip(entities, shares, strict=True))
    return ConfigSpec(entities=entities, routes=routes)


def created(spec: ConfigSpec, name: str = "churn", endpoint_id: str = "e1", at_ms: int = 1) -> EndpointCreated:
    return EndpointCreated(endpoint_id=endpoint_id, name=name, creator="ada", config=spec, at_ms=at_ms)


def requested(spec: ConfigSpec, based_on: int, endpoint_id: str = "e1", at_ms: int = 2) -> ConfigRequested:
    return ConfigRequested(endpoint_id=endpoint_id, based_on=based_on, config=spec, at_ms=at_ms)


def ready(entity: str, version: int = 1, endpoint_id: str = "e1", at_ms: int = 3) -> EntityReady:
    return EntityReady(endpoint_id=endpoint_id, version=version, entity=entity, at_ms=at_ms)


def failed(entity: str, version: int = 1, message: str = "no such package", timed_out: bool = False) -> EntityFailed:
    return EntityFailed(endpoint_id="e1", version=version, entity=entity, message=message, timed_out=timed_out, at_ms=4)


def fold(*events: ControlEvent | None, state: ControlState | None = None) -> ControlState:
    """Fold the events at consecutive offsets."""
    state = state or ControlState()
    for event in events:
        state = apply_event(state, state.next_offset, event)
    return state
