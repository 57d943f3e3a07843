"""Seals values of `environment_vars` before they reach a log or topic (R16)."""

import base64
import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from services.shared.errors import SettingsInvalid


class SecretBox:
    """AES-SIV (RFC 5297): the same value seals to the same text, so that an unchanged entity is seen to be unchanged."""

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
        return base64.b64encode(self._cipher.encrypt(value.encode() or b"\0", None)).decode()

    def open(self, sealed: str) -> str:
        """Raises SettingsInvalid when the value was sealed with another key."""
        try:
            value = self._cipher.decrypt(base64.b64decode(sealed), None)
        except InvalidTag as error:
            raise SettingsInvalid("an environment variable was sealed with another key file") from error
        return "" if value == b"\0" else value.decode()


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
