"""Which addresses may call the workspace: allow and block lists as Databricks has them, and how events change them. Pure.

A blocked address may not call. Of the others all may, or, where there is an allow list, those on one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.shared.addresses import Address, AddressSet, parse_address, parse_network
from services.shared.control_events import (
    AccessEvent,
    AccessListChanged,
    AccessListCreated,
    AccessListDeleted,
    AccessListsSwitched,
    ListType,
)
from services.shared.errors import RequestRejected

MAX_VALUES = 1_000  # addresses and networks of all lists together (Databricks' own limit)


class AccessListNotFound(RequestRejected):
    """No access list has that id."""

    code = "RESOURCE_DOES_NOT_EXIST"


class TooManyAddresses(RequestRejected):
    """The lists together would hold more than a workspace may."""

    code = "QUOTA_EXCEEDED"


class WouldLockOut(RequestRejected):
    """Whoever asked for the change could not call any more."""

    code = "INVALID_STATE"


@dataclass(frozen=True, slots=True)
class AccessList:
    """`addresses` are as they were sent."""

    list_id: str
    label: str
    list_type: ListType
    addresses: tuple[str, ...]
    enabled: bool
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What the enabled lists say, ready to be asked. `allowed` None: there is no allow list."""

    allowed: AddressSet | None
    blocked: AddressSet

    def admit(self, address: Address) -> bool:
        return address not in self.blocked and (self.allowed is None or address in self.allowed)


@dataclass(frozen=True, slots=True)
class AccessLists:
    """`enforced`: as long as it is not, everybody may call whatever the lists say."""

    lists: Mapping[str, AccessList] = field(default_factory=dict)  # by id
    enforced: bool = False

    def rules(self) -> AccessRules:
        enabled = [each for each in self.lists.values() if each.enabled]
        allowing = [each for each in enabled if each.list_type == "ALLOW"]
        blocking = [each for each in enabled if each.list_type == "BLOCK"]
        return AccessRules(_addresses_of(allowing) if allowing else None, _addresses_of(blocking))


def apply_access_event(access: AccessLists, event: AccessEvent) -> AccessLists:
    """Raises AccessListNotFound, TooManyAddresses, and WouldLockOut.

    The last is decided here, where there is an order: two changes at once that each leave their author in could else shut both out.
    """
    if isinstance(event, AccessListsSwitched):
        after = replace(access, enforced=event.enforced)
        if event.enforced:
            _require_author(after, event)
        return after
    after = replace(access, lists=_changed(access, event))
    _require_room(access, after)
    if _author_may_call(access, event):
        _require_author(after, event)
    return after


def _changed(access: AccessLists, event: AccessListCreated | AccessListChanged | AccessListDeleted) -> dict[str, AccessList]:
    if isinstance(event, AccessListCreated):
        made = AccessList(event.list_id, event.label, event.list_type, event.addresses, event.enabled, event.at_ms, event.at_ms)
        return {**access.lists, made.list_id: made}
    found = access.lists.get(event.list_id)
    if found is None:
        raise AccessListNotFound(f"IP access list with id '{event.list_id}' does not exist.")
    if isinstance(event, AccessListDeleted):
        return {list_id: each for list_id, each in access.lists.items() if list_id != event.list_id}
    parts = {"label": event.label, "list_type": event.list_type, "addresses": event.addresses, "enabled": event.enabled}
    changes: dict[str, Any] = {part: value for part, value in parts.items() if value is not None}
    return {**access.lists, found.list_id: replace(found, updated_ms=event.at_ms, **changes)}


def _require_room(before: AccessLists, after: AccessLists) -> None:
    """Who takes no more is never refused."""
    held, wanted = (sum(len(each.addresses) for each in access.lists.values()) for access in (before, after))
    if wanted > max(held, MAX_VALUES):
        raise TooManyAddresses(f"The IP access lists of a workspace hold at most {MAX_VALUES} values; with this they would hold {wanted}.")


def _author_may_call(access: AccessLists, event: AccessEvent) -> bool:
    """By the lists, enforced or not. One at the machine itself, without an address, always may: the control log is at hand."""
    return event.author_address is None or access.rules().admit(parse_address(event.author_address))


def _require_author(after: AccessLists, event: AccessEvent) -> None:
    if not _author_may_call(after, event):
        raise WouldLockOut(f"Your current IP address {event.author_address} would be blocked by the IP access lists; it must stay allowed.")


def _addresses_of(lists: list[AccessList]) -> AddressSet:
    return AddressSet(parse_network(text) for each in lists for text in each.addresses)
