"""Keeps secrets out of captured output: values of an entity's environment, and credentials in addresses (R16)."""

import re
from collections.abc import Iterable

SHORTEST_SECRET = 4  # "1" or "yes" would black out whole logs and hide nothing
HIDDEN = "[REDACTED]"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def to_secrets(values: Iterable[str]) -> tuple[str, ...]:
    """What to look for, longest first: each value, and each line of a value, since output is looked at by lines."""
    parts = {part for value in values for part in (value, *value.splitlines()) if len(part.strip()) >= SHORTEST_SECRET}
    return tuple(sorted(parts, key=lambda part: (-len(part), part)))


def redact(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(f"{HIDDEN}@", text)
