"""Who may do what with a secret scope. Pure. Entries name principals without saying what they are, as in Databricks."""

from enum import IntEnum

from services.shared.endpoints import ControlState, Token
from services.shared.errors import PermissionDenied, SecretNotFound
from services.shared.rights import groups_of, is_admin
from services.shared.secret_scopes import SecretScope


class Permission(IntEnum):
    """Each includes those before it."""

    READ = 1
    WRITE = 2
    MANAGE = 3


def permission_on(scope: SecretScope, caller: Token, state: ControlState) -> Permission | None:
    """The highest that the caller holds, by name, a group, or as admin; None: the scope is not there for them."""
    if is_admin(caller, state):
        return Permission.MANAGE
    names = {caller.principal, *groups_of(caller, state)}
    return max((Permission[permission] for who, permission in scope.acls.items() if who in names), default=None)


def require_scope(needed: Permission, name: str, caller: Token, state: ControlState) -> SecretScope:
    """Raises SecretNotFound, for a scope that the caller may not see as for one that is absent, or PermissionDenied."""
    scope = state.scopes.get(name)
    permission = permission_on(scope, caller, state) if scope else None
    if scope is None or permission is None:
        raise SecretNotFound(f"Scope {name} does not exist!")
    if permission < needed:
        raise PermissionDenied(f"User '{caller.principal}' has {permission.name} on scope '{name}'; this needs {needed.name}.")
    return scope


def readable_secret(name: str, key: str, caller: Token, state: ControlState) -> str | None:
    """The sealed value; None where there is no such secret that the caller may read."""
    scope = state.scopes.get(name)
    if scope is None or permission_on(scope, caller, state) is None or key not in scope.secrets:
        return None
    return scope.secrets[key].sealed
