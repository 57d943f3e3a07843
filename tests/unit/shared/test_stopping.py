"""What a stop and a start do to an endpoint, its pools, and what is told of it."""

import pytest

from services.shared.control_events import (
    ControlEvent,
    EndpointStarted,
    EndpointStopped,
    Notifications,
    NotificationsChanged,
    TagsChanged,
    UpdateCanceled,
    decode_event,
    encode_event,
)
from services.shared.endpoints import ConfigUpdate, ControlState, Endpoint
from services.shared.errors import Conflict
from services.shared.milestones import KEPT
from tests.unit.shared.control_log import config, created, failed, fold, ready, requested


def stop(based_on: int) -> EndpointStopped:
    return EndpointStopped(endpoint_id="e1", based_on=based_on, at_ms=50)


def start(based_on: int) -> EndpointStarted:
    return EndpointStarted(endpoint_id="e1", based_on=based_on, at_ms=60)


CREATING = fold(created(config("1", "2")))
SERVING = fold(ready("a"), ready("b"), state=CREATING)
STOPPED = fold(stop(1), state=SERVING)
STARTING = fold(start(1), state=STOPPED)
STARTED = fold(ready("a", 2), ready("b", 2), state=STARTING)
FAILED = fold(requested(config("3"), 1), failed("a", 2), state=SERVING)


def endpoint(state: ControlState) -> Endpoint:
    return state.endpoints["churn"]


def in_service(state: ControlState) -> set[str]:
    return {pool_id for pool_id, pool in state.pools.items() if pool.retired_at is None}


def test_a_stop_retires_the_pools_and_keeps_the_config() -> None:
    seen = endpoint(STOPPED)
    assert (seen.serving, seen.active) == (None, endpoint(SERVING).active)
    assert (seen.update, seen.updated_ms) == (ConfigUpdate.NOT_UPDATING, 50)
    assert (in_service(SERVING), in_service(STOPPED)) == ({"e1-a-1", "e1-b-1"}, set())


def test_a_start_deploys_the_same_config_as_a_new_version_on_new_pools() -> None:
    during, after = endpoint(STARTING), endpoint(STARTED)
    assert (during.serving, during.update) == (None, ConfigUpdate.IN_PROGRESS)
    assert in_service(STARTING) == in_service(STARTED) == {"e1-a-2", "e1-b-2"}
    assert after.serving is not None
    assert endpoint(SERVING).active is not None
    assert (after.serving.version, after.serving.spec) == (2, endpoint(SERVING).active.spec)  # type: ignore[union-attr]


def test_an_update_of_what_is_stopped_starts_it() -> None:
    after = fold(requested(config("1", "2", shares=(50, 50)), 1), ready("a", 2), ready("b", 2), state=STOPPED)
    assert in_service(after) == {"e1-a-2", "e1-b-2"}, "a traffic-only update finds no pool to keep"
    assert endpoint(after).serving is not None


@pytest.mark.parametrize(
    ("event", "update"),
    [
        pytest.param(UpdateCanceled(endpoint_id="e1", version=2, at_ms=70), ConfigUpdate.UPDATE_CANCELED, id="canceled"),
        pytest.param(failed("a", 2), ConfigUpdate.UPDATE_FAILED, id="failed"),
    ],
)
def test_a_start_that_comes_to_nothing_leaves_it_stopped(event: ControlEvent, update: ConfigUpdate) -> None:
    seen = endpoint(fold(event, state=STARTING))
    assert (seen.stopped, seen.serving, seen.update) == (True, None, update)
    assert endpoint(fold(event, start(2), ready("a", 3), ready("b", 3), state=STARTING)).serving is not None


def test_a_stop_forgets_an_update_that_failed() -> None:
    seen = endpoint(fold(stop(2), state=FAILED))
    assert (seen.pending, seen.update, seen.latest_version) == (None, ConfigUpdate.NOT_UPDATING, 2)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        pytest.param(CREATING, stop(1), id="a stop of what is being created"),
        pytest.param(fold(failed("a"), state=CREATING), stop(1), id="a stop of what was never ready"),
        pytest.param(STOPPED, stop(1), id="a second stop"),
        pytest.param(STARTING, stop(2), id="a stop during a start"),
        pytest.param(FAILED, stop(1), id="a stop decided on an older version"),
        pytest.param(SERVING, start(1), id="a start of what serves"),
        pytest.param(CREATING, start(1), id="a start of what is being created"),
        pytest.param(STARTING, start(2), id="a second start"),
        pytest.param(STOPPED, start(7), id="a start decided on another version"),
    ],
)
def test_what_is_refused(state: ControlState, event: ControlEvent) -> None:
    after = fold(event, state=state)
    assert isinstance(after.verdicts[event.event_id], Conflict)
    assert (after.endpoints, after.pools) == (state.endpoints, state.pools)


def test_addresses_are_kept() -> None:
    notifications = Notifications(on_update_failure=("ops@example.org",))
    event = NotificationsChanged(endpoint_id="e1", notifications=notifications, at_ms=9)
    assert decode_event(encode_event(event)) == event
    assert endpoint(fold(event, state=SERVING)).notifications == notifications


def test_what_befell_an_endpoint_is_told_in_order() -> None:
    after = fold(TagsChanged(endpoint_id="e1", added=(("team", "ml"),), at_ms=5), stop(2), start(2), state=FAILED)
    assert [(m.status, m.message) for m in endpoint(after).milestones] == [
        ("IN_PROGRESS", "The endpoint is being created with config version 1."),
        ("SUCCESS", "Served entity 'a' of config version 1 is ready."),
        ("SUCCESS", "Served entity 'b' of config version 1 is ready."),
        ("SUCCESS", "Config version 1 serves."),
        ("IN_PROGRESS", "The update to config version 2 has begun."),
        ("FAILED", "Served entity 'a': no such package"),
        ("FAILED", "The update to config version 2 failed."),
        ("SUCCESS", "The endpoint is stopped."),
        ("IN_PROGRESS", "The endpoint is being started with config version 3."),
    ]


def test_only_the_newest_milestones_are_kept() -> None:
    state = SERVING
    for version in range(1, KEPT):
        state = fold(requested(config("1", "2", shares=(version % 100, 100 - version % 100)), version), state=state)
    milestones = endpoint(state).milestones
    assert len(milestones) == KEPT
    assert milestones[-1].message == f"Config version {KEPT} serves."
