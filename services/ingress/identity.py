"""Who calls: bearer or basic token, checked against the digests in the control log."""

import base64
from collections.abc import Mapping
from hashlib import sha256

from services.shared.endpoints import ControlState, Token
from services.shared.errors import Unauthenticated

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
        if token is None:
            token = identify(authorization, state)
            self._known[authorization or ""] = token
        return token


def identify(authorization: str | None, state: ControlState) -> Token:
    """The live token behind an `Authorization` header: `Bearer <token>`, or Basic with the token as password.

    Raises Unauthenticated. The token is looked up by its digest, so no secret is compared byte by byte.
    """
    token = state.tokens.get(sha256(_presented(authorization or "").encode()).hexdigest())
    if token is None:
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
