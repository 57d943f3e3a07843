"""Every setting of the stack, and how `penstock settings` shows them."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field
from pydantic_settings import SettingsConfigDict

from services.cli.places import PROJECT, StatePlaces
from services.ingress.settings import IngressSettings
from services.logger.settings import LoggerSettings
from services.scaler.settings import ScalerSettings
from services.scorer.settings import ScorerSettings
from services.shared.errors import SettingsInvalid
from services.shared.node import MAX_SOCKET_PATH, SOCKET_NAME
from services.shared.readiness import LISTEN_VARIABLE, READY_VARIABLE
from services.shared.settings import PREFIX, ServiceSettings, load_settings, unknown_variables

_NO_SETTINGS = {READY_VARIABLE, LISTEN_VARIABLE}  # how processes are handed a descriptor
_PER_REPLICA = {("scorer", "pool_id"), ("scorer", "replica_id"), ("scorer", "refusing")}  # the supervisor's to set, not a person's
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


class StackSettings(ServiceSettings):
    model_config = SettingsConfigDict(extra="forbid")

    state: Path = Field(PROJECT / ".penstock", description="folder that holds all state of the stack")
    ingress: IngressSettings = IngressSettings()
    scorer: ScorerSettings = ScorerSettings()
    scaler: ScalerSettings = ScalerSettings()
    logger: LoggerSettings = LoggerSettings()

    @property
    def places(self) -> StatePlaces:
        return StatePlaces(self.state.absolute())


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as a person reads it; `default` and `value` are text."""

    variable: str
    section: str  # the TOML table, "" for the top
    key: str
    value: str
    default: str
    meaning: str


def load_stack_settings() -> StackSettings:
    """Raises SettingsInvalid, in one line, for an unknown variable or a fault in a value."""
    unknown = unknown_variables(os.environ, _sections())
    unknown = [name for name in unknown if name not in _NO_SETTINGS]
    if unknown:
        raise SettingsInvalid(f"no such setting: {', '.join(unknown)} (`penstock settings` lists all)")
    settings = load_settings(StackSettings)
    socket = settings.places.root / SOCKET_NAME
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
        raise SettingsInvalid(f"{PREFIX}STATE is too long: {socket} must fit in {MAX_SOCKET_PATH} bytes to be a socket")
    return settings


def setting_lines(settings: StackSettings) -> Iterator[SettingLine]:
    """Every setting there is, passwords in addresses left out."""
    for name, section in _sections().items():
        current = getattr(settings, name)
        if section is None:
            field = StackSettings.model_fields[name]
            yield SettingLine(f"{PREFIX}{name}".upper(), "", name, _text(current), _text(field.default), field.description or "")
            continue
        for key, field in section.model_fields.items():
            if (name, key) in _PER_REPLICA:
                continue
            variable = f"{PREFIX}{name}_{key}".upper()
            yield SettingLine(variable, name, key, _text(getattr(current, key)), _text(field.default), field.description or "")


def without_password(address: str) -> str:
    return _PASSWORD.sub("***@", address)


def _sections() -> Mapping[str, type[BaseModel] | None]:
    """Top-level names of StackSettings, with the class of those that are a table."""
    kinds = {name: field.annotation for name, field in StackSettings.model_fields.items()}
    return {name: kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None for name, kind in kinds.items()}


def _text(value: object) -> str:
    return "" if value is None else without_password(str(value))
