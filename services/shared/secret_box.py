"""Seals values of `environment_vars` and of secrets before they reach a log or topic (R16)."""

import base64
import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from services.shared.errors import SettingsInvalid

NONCE_BYTES = 16
_EMPTY = b"\0"  # what an empty value is sealed as: the cipher takes nothing shorter


class SecretBox:
    """AES-SIV (RFC 5297)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    @classmethod
    def from_file(cls, path: Path) -> "SecretBox":
        """Read the key file; make it (mode 600) when it is not there. Raises SettingsInvalid for a file that is no key."""
        if not path.exists():
            _make_key(path)
        try:
            return cls(base64.b64decode(path.read_bytes(), validate=True))
        except ValueError as error:
            raise SettingsInvalid(f"{path} is not a key file of Penstock") from error

    def seal(self, value: str) -> str:
        """The same value seals to the same text, so that an unchanged entity is seen to be unchanged."""
        return self._sealed(value)

    def seal_anew(self, value: str) -> str:
        """To another text each time, so that nobody who reads the log can tell whether a secret is the value they think of."""
        nonce = os.urandom(NONCE_BYTES)
        return f"{_encoded(nonce)}.{self._sealed(value, nonce)}"

    def open(self, sealed: str) -> str:
        """What `seal` or `seal_anew` was given. Raises SettingsInvalid when it was sealed with another key."""
        *nonce, text = map(base64.b64decode, sealed.split("."))
        try:
            value = self._cipher.decrypt(text, nonce)
        except InvalidTag as error:
            raise SettingsInvalid("an environment variable was sealed with another key file") from error
        return "" if value == _EMPTY else value.decode()

    def _sealed(self, value: str, *nonce: bytes) -> str:
        return _encoded(self._cipher.encrypt(value.encode() or _EMPTY, [*nonce]))


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _make_key(path: Path) -> None:
    """Appears whole or not at all: several processes may start at once, and any may die in the middle. The first one wins."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64encode(AESSIV.generate_key(512)))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
