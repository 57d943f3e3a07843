"""Secret scopes: their secrets, sealed, and who may use them. A fold over the control log, a part of that in `endpoints.py`; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.shared.control_events import (
    SecretAclDeleted,
    SecretAclPut,
    SecretDeleted,
    SecretEvent,
    SecretPut,
    SecretScopeCreated,
    SecretScopeDeleted,
)
from services.shared.errors import AlreadyExists, SecretNotFound


@dataclass(frozen=True, slots=True)
class Secret:
    sealed: str
    updated_ms: int


@dataclass(frozen=True, slots=True)
class SecretScope:
    """Events name it by its id: what was decided on a scope that is gone does nothing to a later one of the same name."""

    scope_id: str
    name: str
    acls: Mapping[str, str]  # principal → READ, WRITE or MANAGE
    secrets: Mapping[str, Secret] = field(default_factory=dict)  # by key

    def secret(self, key: str) -> Secret:
        """Raises SecretNotFound."""
        if key not in self.secrets:
            raise SecretNotFound(f"Secret does not exist with scope: {self.name} and key: {key}")
        return self.secrets[key]

    def permission(self, principal: str) -> str:
        """Of the entry that names the principal. Raises SecretNotFound."""
        if principal not in self.acls:
            raise SecretNotFound(f"The access control list of scope {self.name} has no entry for '{principal}'.")
        return self.acls[principal]


Scopes = Mapping[str, SecretScope]  # by name


def apply_secret_event(scopes: Scopes, event: SecretEvent) -> Scopes:
    """Raises AlreadyExists and SecretNotFound: the event is refused."""
    if isinstance(event, SecretScopeCreated):
        if event.name in scopes:
            raise AlreadyExists(f"Scope {event.name} already exists!")
        return {**scopes, event.name: SecretScope(event.scope_id, event.name, {event.manager: "MANAGE"})}
    scope = next((scope for scope in scopes.values() if scope.scope_id == event.scope_id), None)
    if scope is None:
        raise SecretNotFound("The secret scope does not exist any more.")
    if isinstance(event, SecretScopeDeleted):
        return {name: other for name, other in scopes.items() if name != scope.name}
    return {**scopes, scope.name: _changed(scope, event)}


def _changed(scope: SecretScope, event: SecretPut | SecretDeleted | SecretAclPut | SecretAclDeleted) -> SecretScope:
    match event:
        case SecretPut():
            return replace(scope, secrets={**scope.secrets, event.key: Secret(event.sealed, event.at_ms)})
        case SecretDeleted():
            scope.secret(event.key)
            return replace(scope, secrets={key: secret for key, secret in scope.secrets.items() if key != event.key})
        case SecretAclPut():
            return replace(scope, acls={**scope.acls, event.principal: event.permission})
        case SecretAclDeleted():
            scope.permission(event.principal)
            return replace(scope, acls={who: permission for who, permission in scope.acls.items() if who != event.principal})
