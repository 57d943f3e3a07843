"""The admin token: made once per stack, kept in a Databricks profile only its owner can read; the log holds its hash."""

import configparser
import io
import os
import time
from pathlib import Path
from uuid import uuid4

from services.shared.control_events import TokenCreated
from services.shared.endpoints import FIRST_ADMIN
from services.shared.settings import KafkaSettings
from services.shared.tokens import new_token, token_digest


async def ensure_admin(kafka: KafkaSettings, config_file: Path, host: str) -> None:
    """Write the profile. The token in it is kept while the control log knows it, else a new one is made and announced."""
    from services.shared.event_log import EventLog  # 0.15 s of imports, which who only reads the profile does without

    events = EventLog(kafka)
    await events.start()
    try:
        token = read_token(config_file)
        if token is None or token_digest(token) not in events.snapshot().tokens:
            token = new_token()
            # The file goes first: a token nobody was told is worse than one that is made again.
            write_profile(config_file, host, token)
            created = TokenCreated(at_ms=int(time.time() * 1000), token_id=uuid4().hex, sha256=token_digest(token), principal=FIRST_ADMIN)
            await events.publish(created)
        else:
            write_profile(config_file, host, token)
    finally:
        await events.stop()


def read_token(config_file: Path) -> str | None:
    profile = read_profile(config_file)
    return profile[1] if profile else None


def read_profile(config_file: Path) -> tuple[str, str] | None:
    """Host and token; None where no stack has written them yet."""
    profiles = configparser.ConfigParser(interpolation=None)
    profiles.read(config_file)
    written = profiles.defaults()
    return (written["host"], written["token"]) if {"host", "token"} <= written.keys() else None


def write_profile(config_file: Path, host: str, token: str) -> None:
    """Replace the file in one step; at no moment can others read it."""
    profiles = configparser.ConfigParser(interpolation=None)
    profiles["DEFAULT"] = {"host": host, "token": token}
    text = io.StringIO()
    profiles.write(text)
    partial = config_file.with_name(f"{config_file.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text.getvalue())
    partial.replace(config_file)
