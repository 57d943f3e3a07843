"""The IP access lists as a fold: what they say, and which changes are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.shared.access_lists import MAX_VALUES, AccessListNotFound, AccessLists, TooManyAddresses, WouldLockOut
from services.shared.addresses import parse_address
from services.shared.control_events import (
    AccessEvent,
    AccessListChanged,
    AccessListCreated,
    AccessListDeleted,
    AccessListsSwitched,
    decode_event,
    encode_event,
)
from services.shared.endpoints import ControlState
from services.shared.errors import RequestRejected
from tests.unit.shared.control_log import fold

HOME, OFFICE, STRANGER = "10.0.0.1", "192.168.7.7", "203.0.113.9"


def allow(*addresses: str, list_id: str = "a", **more: Any) -> AccessListCreated:
    return AccessListCreated(list_id=list_id, label="allowed", list_type="ALLOW", addresses=addresses, at_ms=1, **more)


def block(*addresses: str, list_id: str = "b", **more: Any) -> AccessListCreated:
    return AccessListCreated(list_id=list_id, label="blocked", list_type="BLOCK", addresses=addresses, at_ms=1, **more)


def change(list_id: str, **parts: Any) -> AccessListChanged:
    return AccessListChanged(list_id=list_id, at_ms=2, **parts)


def switch(enforced: bool, **more: Any) -> AccessListsSwitched:
    return AccessListsSwitched(enforced=enforced, at_ms=3, **more)


def admitted(access: AccessLists) -> list[str]:
    return [address for address in (HOME, OFFICE, STRANGER) if access.rules().admit(parse_address(address))]


def verdict(state: ControlState, event: AccessEvent) -> RequestRejected | None:
    return fold(event, state=state).verdicts[event.event_id]


@pytest.mark.parametrize(
    ("events", "may_call"),
    [
        pytest.param([], [HOME, OFFICE, STRANGER], id="no list: everybody"),
        pytest.param([allow("10.0.0.0/8")], [HOME], id="an allow list: who is on it"),
        pytest.param([allow(HOME), allow(OFFICE, list_id="c")], [HOME, OFFICE], id="two allow lists: who is on either"),
        pytest.param([block("203.0.113.0/24")], [HOME, OFFICE], id="a block list alone: all others"),
        pytest.param([allow("0.0.0.0/0"), block(OFFICE)], [HOME, STRANGER], id="blocked goes before allowed"),
        pytest.param([allow(HOME, enabled=False)], [HOME, OFFICE, STRANGER], id="a list that is not enabled says nothing"),
        pytest.param([allow()], [], id="an allow list of nobody allows nobody"),
        pytest.param([allow(HOME), change("a", list_type="BLOCK")], [OFFICE, STRANGER], id="a list that changes its type"),
        pytest.param([allow(HOME), change("a", addresses=(OFFICE,))], [OFFICE], id="a list that changes its addresses"),
        pytest.param([allow(HOME), change("a", enabled=False)], [HOME, OFFICE, STRANGER], id="a list that is switched off"),
        pytest.param([allow(HOME), AccessListDeleted(list_id="a", at_ms=2)], [HOME, OFFICE, STRANGER], id="a list that is gone"),
    ],
)
def test_who_may_call(events: list[AccessEvent], may_call: list[str]) -> None:
    assert admitted(fold(*events).access) == may_call


def test_a_change_keeps_what_it_does_not_name_and_nothing_is_enforced_unasked() -> None:
    access = fold(allow(HOME), change("a", label="offices")).access
    (kept,) = access.lists.values()
    assert (kept.label, kept.list_type, kept.addresses, kept.enabled, kept.created_ms, kept.updated_ms) == (
        "offices",
        "ALLOW",
        (HOME,),
        True,
        1,
        2,
    )
    assert not access.enforced
    assert fold(switch(True)).access.enforced
    assert not fold(switch(True), switch(False)).access.enforced


@pytest.mark.parametrize("enforced", [False, True], ids=["not enforced yet", "enforced"])
@pytest.mark.parametrize(
    ("before", "event"),
    [
        pytest.param([], allow(OFFICE, author_address=HOME), id="an allow list without them"),
        pytest.param([], allow(author_address=HOME), id="an allow list of nobody"),
        pytest.param([], block("10.0.0.0/8", author_address=HOME), id="a block list with them"),
        pytest.param([], block(HOME, author_address=f"::ffff:{HOME}"), id="one with them, by the other way to write it"),
        pytest.param([allow(HOME)], change("a", addresses=(OFFICE,), author_address=HOME), id="an allow list that loses them"),
        pytest.param([allow(HOME)], change("a", list_type="BLOCK", author_address=HOME), id="an allow list that turns into a block list"),
        pytest.param([block(HOME, enabled=False)], change("b", enabled=True, author_address=HOME), id="a block list that is switched on"),
        pytest.param(
            [allow(HOME), allow(OFFICE, list_id="c")], AccessListDeleted(list_id="a", author_address=HOME, at_ms=2), id="without their list"
        ),
    ],
)
def test_nobody_locks_themselves_out(before: list[AccessEvent], event: AccessEvent, enforced: bool) -> None:
    state = fold(*before, switch(enforced))
    assert isinstance(verdict(state, event), WouldLockOut)
    assert fold(event, state=state).access == state.access
    from_the_machine = event.model_copy(update={"author_address": None, "event_id": "other"})
    assert verdict(state, from_the_machine) is None


def test_what_shuts_its_author_out_cannot_be_switched_on_but_changed_and_switched_off() -> None:
    state = fold(allow(OFFICE))
    assert isinstance(verdict(state, switch(True, author_address=HOME)), WouldLockOut)
    assert verdict(state, change("a", label="x", author_address=HOME)) is None
    assert verdict(state, switch(False, author_address=HOME)) is None
    assert verdict(state, switch(True, author_address=OFFICE)) is None


def test_a_list_that_is_not_there() -> None:
    for event in (change("x"), AccessListDeleted(list_id="x", at_ms=2)):
        assert isinstance(verdict(ControlState(), event), AccessListNotFound)


def test_the_lists_together_hold_so_many_values() -> None:
    full = fold(block(*["1.1.1.1"] * (MAX_VALUES - 1)))
    assert verdict(full, block("2.2.2.2", list_id="c")) is None
    assert isinstance(verdict(full, block("2.2.2.2", "3.3.3.3", list_id="c")), TooManyAddresses)
    assert verdict(full, change("b", addresses=("1.1.1.1",))) is None


def test_no_event_holds_what_is_no_address() -> None:
    event = encode_event(allow(HOME, author_address=OFFICE))
    assert decode_event(event).model_dump(include={"addresses", "author_address"}) == {"addresses": (HOME,), "author_address": OFFICE}
    for text in (HOME, OFFICE):
        with pytest.raises(ValidationError):
            decode_event(event.replace(text.encode(), b"nobody"))
