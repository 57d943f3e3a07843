"""Whose an inference table is, in the fold, where two who name the same one meet in an order."""

import pytest

from services.shared.control_events import (
    ConfigRequested,
    ControlEvent,
    EndpointCreated,
    EndpointDeleted,
    GatewayChanged,
    GroupChanged,
    PrincipalKind,
    TableConfig,
)
from services.shared.endpoints import ControlState
from services.shared.errors import AlreadyExists
from services.shared.table_owners import TableOwner
from tests.unit.shared.control_log import config, fold, ready

TABLE = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="churn")
OFF: dict[str, object] = {"inference_table_config": {**TABLE.model_dump(), "enabled": False}}
GATEWAY: dict[str, object] = {"inference_table_config": TABLE.model_dump()}
ROBOT = PrincipalKind.SERVICE_PRINCIPAL


def made(
    name: str, creator: str, endpoint_id: str, gateway: dict[str, object], kind: PrincipalKind = PrincipalKind.USER
) -> EndpointCreated:
    return EndpointCreated(
        endpoint_id=endpoint_id, name=name, creator=creator, creator_kind=kind, config=config("1"), gateway=gateway, at_ms=1
    )


def capturing(endpoint_id: str, based_on: int) -> ConfigRequested:
    return ConfigRequested(
        endpoint_id=endpoint_id, based_on=based_on, config=config("2").model_copy(update={"auto_capture": TABLE}), at_ms=5
    )


LOGGED = fold(GroupChanged(name="admins", members=("root",), at_ms=0), made("churn", "ada", "e1", GATEWAY), ready("a"))
GONE = fold(EndpointDeleted(endpoint_id="e1", at_ms=9), state=LOGGED)
OTHER = fold(made("fraud", "eve", "e2", {}), ready("a", endpoint_id="e2"), state=LOGGED)


@pytest.mark.parametrize(
    ("state", "event", "taken"),
    [
        pytest.param(LOGGED, made("fraud", "eve", "e2", GATEWAY), False, id="no new endpoint names the table of another"),
        pytest.param(LOGGED, made("fraud", "ada", "e2", GATEWAY), False, id="nor does one of the same principal: rows would be mixed"),
        pytest.param(LOGGED, made("fraud", "root", "e2", GATEWAY), False, id="nor an admin's"),
        pytest.param(LOGGED, made("fraud", "eve", "e2", OFF), False, id="nor one that is switched off as yet"),
        pytest.param(OTHER, GatewayChanged(endpoint_id="e2", gateway=GATEWAY, at_ms=5), False, id="nor does a change of the gateway"),
        pytest.param(OTHER, capturing("e2", 1), False, id="nor a config that is to capture"),
        pytest.param(GONE, made("churn", "eve", "e2", GATEWAY), False, id="the name of an endpoint that is gone does not give its table"),
        pytest.param(GONE, made("churn", "ada", "e2", GATEWAY, ROBOT), False, id="a service principal is no user of that name"),
        pytest.param(GONE, made("churn", "ada", "e2", GATEWAY), True, id="who had made it goes on with the table"),
        pytest.param(GONE, made("churn", "root", "e2", GATEWAY), True, id="and so does an admin"),
        pytest.param(LOGGED, GatewayChanged(endpoint_id="e1", gateway=GATEWAY, at_ms=5), True, id="an endpoint may name its own again"),
    ],
)
def test_a_table_is_named_by_whom_it_belongs_to(state: ControlState, event: ControlEvent, taken: bool) -> None:
    after = fold(event, state=state)
    verdict = after.verdicts[event.event_id]
    assert verdict is None if taken else isinstance(verdict, AlreadyExists)
    if not taken:
        assert (after.endpoints, after.table_owners) == (state.endpoints, state.table_owners)


def test_an_endpoint_that_once_named_a_table_still_has_it() -> None:
    moved = {"inference_table_config": {**TABLE.model_dump(), "table_name_prefix": "churn_2"}}
    left = fold(GatewayChanged(endpoint_id="e1", gateway=moved, at_ms=5), state=LOGGED)
    event = made("fraud", "eve", "e2", GATEWAY)
    assert isinstance(fold(event, state=left).verdicts[event.event_id], AlreadyExists)
    assert fold(GatewayChanged(endpoint_id="e1", gateway=GATEWAY, at_ms=6), state=left).endpoints["churn"].table == TABLE


def test_an_admin_who_goes_on_with_a_table_has_it_from_then_on() -> None:
    taken = fold(made("churn", "root", "e2", GATEWAY), EndpointDeleted(endpoint_id="e2", at_ms=9), state=GONE)
    assert taken.table_owners[TABLE.full_name] == TableOwner("churn", "root", PrincipalKind.USER)
    event = made("churn", "ada", "e3", GATEWAY)
    assert isinstance(fold(event, state=taken).verdicts[event.event_id], AlreadyExists)


def test_an_update_that_ends_later_is_not_asked_again() -> None:
    """The admin who made it may be none any more when its config is ready."""
    pending = fold(made("churn", "root", "e2", {}), ready("a", endpoint_id="e2"), capturing("e2", 1), state=GONE)
    demoted = fold(GroupChanged(name="admins", members=("ida",), at_ms=6), state=pending)
    done = ready("a", version=2, endpoint_id="e2")
    after = fold(done, state=demoted)
    assert after.verdicts[done.event_id] is None
    assert after.endpoints["churn"].table == TABLE
