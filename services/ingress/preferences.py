"""What a caller of an invocation asks for besides its answer: `Prefer: respond-async, wait=N` (RFC 7240) and `Idempotency-Key`. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.shared.errors import ParameterInvalid

MAX_KEY = 256  # characters


@dataclass(frozen=True, slots=True)
class Preferences:
    """`wait_s`: how long the answer may take before a 202 goes out instead, where `is_async`; `key` "" for none."""

    is_async: bool = False
    wait_s: float = 0
    key: str = ""


def preferences_of(headers: Iterable[tuple[bytes, bytes]]) -> Preferences | None:
    """None: only the answer is asked for. A preference that is not known, or means nothing here, is passed over, as the RFC has it.

    Raises ParameterInvalid for a key that is too long.
    """
    lines, keys = [], []
    for name, value in headers:
        if name == b"prefer":
            lines.append(value.decode("latin-1"))
        elif name == b"idempotency-key":
            keys.append(value.decode("latin-1"))
    asked = _parse_prefer(",".join(lines))
    key = require_key(keys[0]) if keys else ""
    is_async = "respond-async" in asked
    if not (is_async or key):
        return None
    wait = asked.get("wait", "")
    return Preferences(is_async, float(wait) if wait.isascii() and wait.isdigit() else 0, key)


def require_key(key: str) -> str:
    """Raises ParameterInvalid."""
    if len(key) > MAX_KEY:
        raise ParameterInvalid(f"An 'Idempotency-Key' has at most {MAX_KEY} characters.")
    return key


def _parse_prefer(line: str) -> dict[str, str]:
    """Of what comes twice the first counts; parameters after a semicolon are none that mean anything here."""
    asked: dict[str, str] = {}
    for preference in line.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        asked.setdefault(name.strip().lower(), value.strip().strip('"'))
    return asked
