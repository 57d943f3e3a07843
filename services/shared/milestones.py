"""What befell an endpoint, in words for the people who run it: `GET …/events` shows the newest. Pure."""

from dataclasses import dataclass

from services.shared.control_events import (
    ConfigRequested,
    EndpointCreated,
    EndpointEvent,
    EndpointStarted,
    EndpointStopped,
    EntityFailed,
    EntityReady,
    UpdateCanceled,
)

KEPT = 100  # of each endpoint
UPDATE = "ENDPOINT_UPDATE_EVENT"
CONTAINER = "SERVED_ENTITY_CONTAINER_EVENT"


@dataclass(frozen=True, slots=True)
class Milestone:
    at_ms: int
    event_type: str
    status: str
    message: str


def milestones_of(event: EndpointEvent, version: int, activated: bool) -> tuple[Milestone, ...]:
    """Oldest first; empty for what changes nothing that is deployed.

    `version` is the newest config's once the event is folded, and `activated` whether the event made it the active one.
    """
    happened: tuple[tuple[str, str, str], ...]
    match event:
        case EndpointCreated():
            happened = ((UPDATE, "IN_PROGRESS", f"The endpoint is being created with config version {version}."),)
        case ConfigRequested():
            happened = ((UPDATE, "IN_PROGRESS", f"The update to config version {version} has begun."),)
        case EndpointStarted():
            happened = ((UPDATE, "IN_PROGRESS", f"The endpoint is being started with config version {version}."),)
        case EndpointStopped():
            happened = ((UPDATE, "SUCCESS", "The endpoint is stopped."),)
        case UpdateCanceled():
            happened = ((UPDATE, "CANCELED", f"The update to config version {version} was canceled."),)
        case EntityReady():
            happened = ((CONTAINER, "SUCCESS", f"Served entity '{event.entity}' of config version {version} is ready."),)
        case EntityFailed():
            failed = f"The update to config version {version} failed."
            happened = ((CONTAINER, "FAILED", f"Served entity '{event.entity}': {event.message}"), (UPDATE, "FAILED", failed))
        case _:
            happened = ()
    if activated:
        happened += ((UPDATE, "SUCCESS", f"Config version {version} serves."),)
    return tuple(Milestone(event.at_ms, *what) for what in happened)
