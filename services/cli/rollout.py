"""Waits until an update of an endpoint has ended, and shows meanwhile how far its served entities are."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from services.cli.endpoint_views import deployment, newest_entities
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.layout import error_console
from services.cli.progress import Progress
from services.cli.workspace import Workspace

PAUSE_STEP_S, LONGEST_PAUSE_S = 0.5, 10.0  # the SDK's waiter grows to 10 s, too
COME_AGAIN = (429, 503)


def follow(workspace: Workspace, endpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The endpoint once it is as it was asked to be. Raises StackFailure with what went wrong; interrupted, the update goes on."""
    name = endpoint["name"]
    try:
        endpoint = _when_ended(workspace, endpoint)
    except KeyboardInterrupt:
        error_console().print(f"the update goes on: `penstock endpoints get {name}` tells how far it is, `… cancel {name}` ends it")
        raise
    if failure := failure_of(endpoint):
        raise StackFailure(failure)
    return endpoint


def _when_ended(workspace: Workspace, endpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    began_at = time.monotonic()
    with Progress(error_console()) as progress:
        for pause_s in pauses():
            for entity, state in states_of(endpoint):
                progress.process(entity, state, time.monotonic() - began_at)
            if endpoint["state"]["config_update"] != "IN_PROGRESS":
                break
            time.sleep(pause_s)
            try:
                endpoint = workspace.endpoint(endpoint["name"])
            except ApiRefusal as refusal:
                if refusal.status not in COME_AGAIN:
                    raise
                time.sleep(refusal.retry_after_s or 1.0)
    return endpoint


def pauses() -> Iterator[float]:
    pause_s = 0.0
    while True:
        pause_s = min(pause_s + PAUSE_STEP_S, LONGEST_PAUSE_S)
        yield pause_s


def states_of(endpoint: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each served entity of the newest config with how far its deployment is."""
    return [(entity["name"], deployment(entity["state"])) for entity in newest_entities(endpoint)]


def failure_of(endpoint: Mapping[str, Any]) -> str | None:
    """One line on an update that ended badly; None for one that did not."""
    name, ended = endpoint["name"], endpoint["state"]["config_update"]
    if ended == "UPDATE_CANCELED":
        return f"the update of '{name}' was canceled"
    if ended != "UPDATE_FAILED":
        return None
    entities = endpoint.get("pending_config", {"served_entities": []})["served_entities"]
    bad = [entity for entity in entities if deployment(entity["state"]) in ("failed", "aborted")]
    if not bad:
        return f"the update of '{name}' failed"
    culprit = next((entity for entity in bad if deployment(entity["state"]) == "failed"), bad[0])
    said = culprit["state"]["deployment_state_message"]
    return f"the update of '{name}' failed: {said}\n  more: penstock endpoints logs {name} {culprit['name']} --build"
