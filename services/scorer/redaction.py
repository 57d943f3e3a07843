"""Keeps secrets out of captured output: values of an entity's environment, and credentials in addresses (R16)."""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

SHORTEST_SECRET = 4  # "1" or "yes" would black out whole logs and hide nothing
HIDDEN = "[REDACTED]"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def to_secrets(values: Iterable[str]) -> tuple[str, ...]:
    """What to look for, longest first: each value, and each line of a value, since output is looked at by lines."""
    parts = {part for value in values for part in (value, *value.splitlines()) if len(part.strip()) >= SHORTEST_SECRET}
    return tuple(sorted({form for part in parts for form in _forms(part)}, key=lambda form: (-len(form), form)))


def redact(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(f"{HIDDEN}@", text)


def redact_error(body: bytes, secrets: tuple[str, ...]) -> bytes:
    """An answer that tells of an error. JSON stays JSON, with the `error_code` that clients go by; without a secret it stays as it is."""
    text = body.decode(errors="replace")
    try:
        error = json.loads(text)
    except (ValueError, RecursionError):
        return redact(text, secrets).encode()
    told = _redacted(error, secrets)
    if isinstance(error, dict) and "error_code" in error:
        told["error_code"] = error["error_code"]
    return body if told == error else json.dumps(told).encode()


def split_line(line: bytes, limit_bytes: int, secrets: tuple[str, ...]) -> tuple[bytes, bytes]:
    """What may be told by now of a line that has not ended, and what is held back: nothing is told of one within the limit, nor
    is a secret ever cut in two, since the part of it that came would not be known for one.
    """
    longest = max((len(secret.encode()) for secret in secrets), default=0)
    if len(line) <= limit_bytes + longest:
        return b"", line
    for secret in secrets:
        line = line.replace(secret.encode(), HIDDEN.encode())
    cut = max(0, len(line) - longest)
    return line[:cut], line[cut:]


def _forms(secret: str) -> set[str]:
    """As it is, and as errors quote it: in Python's words, in JSON, in an address."""
    quoted = {repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {secret, quote(secret, safe=""), *quoted}


def _redacted(value: Any, secrets: tuple[str, ...]) -> Any:
    match value:
        case str():
            return redact(value, secrets)
        case list():
            return [_redacted(item, secrets) for item in value]
        case dict():
            return {key: _redacted(item, secrets) for key, item in value.items()}
    return value
