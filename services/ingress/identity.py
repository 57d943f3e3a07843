"""Who calls: bearer or basic token, checked against the digests in the control log."""

import base64
from collections.abc import Mapping

from services.shared.clock import now_ms
from services.shared.endpoints import ControlState, Token
from services.shared.errors import EndpointNotFound, PermissionDenied, Unauthenticated
from services.shared.rights import Level, require
from services.shared.tokens import token_digest

REMEMBERED_CALLERS = 1_000


class Callers:
    """Who called lately, by what they presented: without it each request costs a digest. Forgotten when any token changes."""

    def __init__(self) -> None:
        self._known: dict[str, Token] = {}
        self._tokens: Mapping[str, Token] = {}

    def identify(self, authorization: str | None, state: ControlState) -> Token:
        """As the function of that name."""
        if state.tokens is not self._tokens or len(self._known) > REMEMBERED_CALLERS:
            self._tokens, self._known = state.tokens, {}
        token = self._known.get(authorization or "")
        if token is None or token.expires_ms is not None:  # the time may have come since
            token = identify(authorization, state)
            self._known[authorization or ""] = token
        return token


class Queriers:
    """Who may query what, as far as it was asked for in the newest snapshot."""

    def __init__(self) -> None:
        self._state = ControlState()
        self._known: dict[tuple[str, str], EndpointNotFound | PermissionDenied | None] = {}  # by token and endpoint

    def require(self, caller: Token, name: str, state: ControlState) -> None:
        """Raises EndpointNotFound or PermissionDenied."""
        if state is not self._state or len(self._known) > REMEMBERED_CALLERS:
            self._state, self._known = state, {}
        key = caller.token_id, name
        if key not in self._known:
            self._known[key] = _why_not(caller, name, state)
        if refusal := self._known[key]:
            raise refusal.with_traceback(None)


def _why_not(caller: Token, name: str, state: ControlState) -> EndpointNotFound | PermissionDenied | None:
    try:
        require(Level.CAN_QUERY, caller, state.endpoint(name), state)
    except (EndpointNotFound, PermissionDenied) as refusal:
        return refusal
    return None


def identify(authorization: str | None, state: ControlState) -> Token:
    """The live token behind an `Authorization` header: `Bearer <token>`, or Basic with the token as password.

    Raises Unauthenticated. The token is looked up by its digest, so no secret is compared byte by byte.
    """
    token = state.tokens.get(token_digest(_presented(authorization or "")))
    if token is None or token.is_expired(now_ms()):
        raise Unauthenticated("Invalid access token." if authorization else "An access token is required: 'Authorization: Bearer <token>'.")
    return token


def _presented(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except ValueError:  # not base64, not ASCII, or not UTF-8 inside
            return ""
    return ""
