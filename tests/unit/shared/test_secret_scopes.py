"""Secret scopes as the control log says them: what is there after each event, and which events are refused."""

from dataclasses import replace

import pytest

from services.shared.control_events import (
    SecretAclDeleted,
    SecretAclPut,
    SecretDeleted,
    SecretEvent,
    SecretPut,
    SecretScopeCreated,
    SecretScopeDeleted,
    decode_event,
    encode_event,
)
from services.shared.errors import AlreadyExists, RequestRejected, SecretNotFound
from services.shared.secret_scopes import Scopes, Secret, SecretScope
from tests.unit.shared.control_log import config, created, fold

MADE = SecretScopeCreated(scope_id="s1", name="prod", manager="ada", at_ms=1)
PUT = SecretPut(scope_id="s1", key="k", sealed="x", at_ms=2)
GIVEN = SecretAclPut(scope_id="s1", principal="team", permission="READ", at_ms=3)
SCOPE = SecretScope("s1", "prod", {"ada": "MANAGE", "team": "READ"}, {"k": Secret("x", 2)})


@pytest.mark.parametrize(
    ("event", "scopes"),
    [
        pytest.param(
            SecretPut(scope_id="s1", key="k", sealed="y", at_ms=9),
            {"prod": replace(SCOPE, secrets={"k": Secret("y", 9)})},
            id="a secret is replaced",
        ),
        pytest.param(SecretDeleted(scope_id="s1", key="k", at_ms=9), {"prod": replace(SCOPE, secrets={})}, id="a secret goes"),
        pytest.param(
            SecretAclPut(scope_id="s1", principal="team", permission="WRITE", at_ms=9),
            {"prod": replace(SCOPE, acls={"ada": "MANAGE", "team": "WRITE"})},
            id="an entry is replaced",
        ),
        pytest.param(
            SecretAclDeleted(scope_id="s1", principal="team", at_ms=9),
            {"prod": replace(SCOPE, acls={"ada": "MANAGE"})},
            id="an entry goes",
        ),
        pytest.param(SecretScopeDeleted(scope_id="s1", at_ms=9), {}, id="a scope goes with all that is in it"),
        pytest.param(
            SecretScopeCreated(scope_id="s2", name="test", manager="users", at_ms=9),
            {"prod": SCOPE, "test": SecretScope("s2", "test", {"users": "MANAGE"})},
            id="another scope",
        ),
    ],
)
def test_what_an_event_changes(event: SecretEvent, scopes: Scopes) -> None:
    read_back = decode_event(encode_event(event))
    assert fold(MADE, PUT, GIVEN, read_back, read_back).scopes == scopes, "also when it is delivered twice"


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        pytest.param(SecretScopeCreated(name="prod", manager="e", at_ms=9), AlreadyExists("Scope prod already exists!"), id="a name taken"),
        pytest.param(
            SecretDeleted(scope_id="s1", key="l", at_ms=9),
            SecretNotFound("Secret does not exist with scope: prod and key: l"),
            id="no such secret",
        ),
        pytest.param(
            SecretAclDeleted(scope_id="s1", principal="eve", at_ms=9),
            SecretNotFound("The access control list of scope prod has no entry for 'eve'."),
            id="no such entry",
        ),
        pytest.param(
            SecretPut(scope_id="s0", key="k", sealed="y", at_ms=9),
            SecretNotFound("The secret scope does not exist any more."),
            id="decided on an older scope of the same name",
        ),
    ],
)
def test_an_event_that_is_refused_changes_nothing(event: SecretEvent, refusal: RequestRejected) -> None:
    state = fold(MADE, PUT, GIVEN, event)
    assert (state.scopes, state.verdicts[event.event_id]) == ({"prod": SCOPE}, refusal)


def test_secrets_and_endpoints_are_no_business_of_one_another() -> None:
    state = fold(created(config("1")), MADE)
    assert (list(state.endpoints), list(state.scopes)) == (["churn"], ["prod"])
