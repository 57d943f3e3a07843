"""Who there is. Nobody is registered: a user is whoever has a token, or is in a group. Pure."""

from dataclasses import dataclass

from services.shared.control_events import PrincipalKind
from services.shared.endpoints import ControlState


@dataclass(frozen=True, slots=True)
class KnownUser:
    principal: str
    kind: PrincipalKind
    tokens: int  # that still work
    groups: tuple[str, ...]


def known_users(state: ControlState, at_ms: int) -> list[KnownUser]:
    """By name. A member of a group without a token is taken for a person."""
    principals = {(token.principal, token.kind) for token in state.tokens.values()}
    with_token = {name for name, _ in principals}
    principals |= {(name, PrincipalKind.USER) for members in state.groups.values() for name in members if name not in with_token}
    working = [(token.principal, token.kind) for token in state.tokens.values() if not token.is_expired(at_ms)]
    return [
        KnownUser(
            name, kind, working.count((name, kind)), tuple(sorted(group for group, members in state.groups.items() if name in members))
        )
        for name, kind in sorted(principals)
    ]
