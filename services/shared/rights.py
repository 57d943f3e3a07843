"""Who may do what with an endpoint (databricks_surface §1.5). Pure."""

from enum import IntEnum

from services.shared.control_events import Grant, PrincipalKind
from services.shared.endpoints import ADMINS, ControlState, Endpoint, Token
from services.shared.errors import EndpointNotFound, PermissionDenied

USERS = "users"  # the group that everybody is in


class Level(IntEnum):
    """Each includes those before it."""

    CAN_VIEW = 1
    CAN_QUERY = 2
    CAN_MANAGE = 3


DESCRIPTIONS = {
    Level.CAN_VIEW: "Can get and list the endpoint, and read its metrics, logs and events",
    Level.CAN_QUERY: "Can view and query the endpoint",
    Level.CAN_MANAGE: "Can view, query, update and delete the endpoint, and change its permissions",
}


def is_admin(caller: Token, state: ControlState) -> bool:
    return caller.principal in state.groups.get(ADMINS, ())


def groups_of(caller: Token, state: ControlState) -> set[str]:
    """By name, the one that everybody is in among them."""
    return {USERS, *(name for name, members in state.groups.items() if caller.principal in members)}


def level_of(caller: Token, endpoint: Endpoint, state: ControlState) -> Level | None:
    """The highest the caller holds, by a direct entry, a group, as creator or as admin; None: the endpoint is not there for them."""
    if is_admin(caller, state) or (endpoint.creator == caller.principal and endpoint.creator_kind == caller.kind):
        return Level.CAN_MANAGE
    groups = groups_of(caller, state)
    levels = (Level[grant.level] for grant in endpoint.grants if _is_for(grant, caller, groups))
    return max(levels, default=None)


def require(needed: Level, caller: Token, endpoint: Endpoint, state: ControlState) -> Level:
    """The caller's level. Raises EndpointNotFound, as for one that is absent, or PermissionDenied."""
    level = level_of(caller, endpoint, state)
    if level is None:
        raise EndpointNotFound(endpoint.name)
    if level < needed:
        raise PermissionDenied(f"User '{caller.principal}' has {level.name} on endpoint '{endpoint.name}'; this needs {needed.name}.")
    return level


def _is_for(grant: Grant, caller: Token, groups: set[str]) -> bool:
    if grant.kind is PrincipalKind.GROUP:
        return grant.name in groups
    return (grant.kind, grant.name) == (caller.kind, caller.principal)
