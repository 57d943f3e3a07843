"""Access tokens: how one is made, and what the control log keeps of it."""

import secrets
from hashlib import sha256


def new_token() -> str:
    """As Databricks' own look. It is shown once, to its owner."""
    return f"dapi{secrets.token_hex(16)}"


def token_digest(token: str) -> str:
    """What stands for a token everywhere else: nobody gets from it to the token."""
    return sha256(token.encode()).hexdigest()
