from services.cli.known_users import KnownUser, known_users
from services.shared.control_events import GroupChanged, PrincipalKind
from tests.unit.ingress.callers import ROBOT, token
from tests.unit.shared.control_log import fold

USER = PrincipalKind.USER


def test_users_are_those_with_a_token_and_those_in_a_group() -> None:
    again = token("eve").model_copy(update={"token_id": "second", "sha256": "0" * 64})
    past = token("late", expires_ms=10)
    groups = (GroupChanged(name="team", members=("robot", "bob"), at_ms=1), GroupChanged(name="all", members=("bob",), at_ms=1))
    state = fold(token("eve"), again, past, token("robot", ROBOT), *groups)
    assert known_users(state, at_ms=10) == [
        KnownUser("admin", USER, 0, ("admins",)),
        KnownUser("bob", USER, 0, ("all", "team")),
        KnownUser("eve", USER, 2, ()),
        KnownUser("late", USER, 0, ()),
        KnownUser("robot", ROBOT, 1, ("team",)),
    ]
