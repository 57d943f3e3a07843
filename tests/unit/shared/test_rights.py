import pytest

from services.shared.control_events import Grant, GroupChanged, PermissionsChanged, PrincipalKind
from services.shared.errors import EndpointNotFound, PermissionDenied
from services.shared.rights import Level, level_of, require
from tests.unit.ingress.callers import LEVELS, STATE, TOKENS
from tests.unit.shared.control_log import fold

CHURN = STATE.endpoints["churn"]


@pytest.mark.parametrize(("who", "level"), LEVELS.items())
def test_everybody_has_the_highest_level_they_were_given(who: str, level: Level | None) -> None:
    assert level_of(TOKENS[who], CHURN, STATE) is level


def test_what_one_may_not_see_is_absent_and_what_one_may_not_do_is_denied() -> None:
    with pytest.raises(EndpointNotFound):
        require(Level.CAN_VIEW, TOKENS["stranger"], CHURN, STATE)
    with pytest.raises(PermissionDenied, match="'viewer' has CAN_VIEW on endpoint 'churn'; this needs CAN_QUERY"):
        require(Level.CAN_QUERY, TOKENS["viewer"], CHURN, STATE)
    assert require(Level.CAN_QUERY, TOKENS["manager"], CHURN, STATE) is Level.CAN_MANAGE


def test_everybody_is_a_user() -> None:
    grant = Grant(kind=PrincipalKind.GROUP, name="users", level="CAN_VIEW")
    state = fold(PermissionsChanged(endpoint_id="e1", grants=(grant,), replaces=False, at_ms=3), state=STATE)
    assert level_of(TOKENS["stranger"], state.endpoints["churn"], state) is Level.CAN_VIEW
    assert level_of(TOKENS["querier"], state.endpoints["churn"], state) is Level.CAN_QUERY


def test_who_leaves_a_group_has_what_is_left() -> None:
    state = fold(GroupChanged(name="team", members=(), at_ms=3), state=STATE)
    assert level_of(TOKENS["member"], state.endpoints["churn"], state) is Level.CAN_VIEW


def test_an_admin_is_who_is_in_that_group_and_it_is_never_empty() -> None:
    state = fold(GroupChanged(name="admins", members=("stranger",), at_ms=3), state=STATE)
    assert level_of(TOKENS["stranger"], CHURN, state) is Level.CAN_MANAGE
    assert level_of(TOKENS["admin"], CHURN, state) is None
    assert fold(GroupChanged(name="admins", members=(), at_ms=4), state=state).groups == state.groups
