"""Settings every service reads: `PENSTOCK_<SECTION>_<NAME>`, else the TOML file `PENSTOCK_CONFIG` names, else the default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError, TomlConfigSettingsSource

from services.shared.errors import SettingsInvalid

PREFIX = "PENSTOCK_"
MIB = 1024 * 1024
GIB = 1024 * MIB


class Section(BaseModel):
    """One table of the TOML file. Unknown keys and bad bounds stop the start."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    bootstrap: str = Field("", description="host:port of an external Kafka; empty: `penstock up` starts its own broker")
    port: int = Field(19092, ge=0, le=65534, description="port of Penstock's own broker (its controller takes another); 0: any free one")
    replication_factor: int = Field(1, ge=1, le=9, description="copies of each topic's partitions; 3 on a real cluster")
    outcome_partitions: int = Field(4, ge=1, le=64, description="partitions of the outcomes topic; fixed once the topic exists")
    pool_retention_h: float = Field(48, gt=0, description="hours a pool topic keeps requests")
    outcome_retention_h: float = Field(168, gt=0, description="hours the outcomes topic keeps request/response pairs")
    dead_letter_retention_h: float = Field(720, gt=0, description="hours the dead letters are kept")
    event_retention_h: float = Field(336, gt=0, description="hours scaling and deploy events are kept")


class RedisSettings(Section):
    url: str = Field("", description="redis:// URL of an external Redis; empty: `penstock up` starts its own")
    port: int = Field(16379, ge=0, le=65535, description="port of Penstock's own Redis; 0: any free one")


class MlflowSettings(Section):
    tracking_uri: str = Field("", description="URI of an external MLflow server; empty: `penstock up` starts its own on sqlite")
    port: int = Field(15000, ge=0, le=65535, description="port of Penstock's own MLflow server; 0: any free one")


class TableSettings(Section):
    location: str = Field(
        "",
        pattern=r"^(s3://[^/]+(/.*)?)?$",
        description="s3://bucket/prefix for tables, reached by the usual AWS variables; empty: the state folder",
    )


class LogSettings(Section):
    level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe level written to the service logs")


class ServiceSettings(BaseSettings):
    """What each service process gets; a service adds its own section. Built once in `__main__`, handed down, never read again."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    state: Path = Field(Path(".penstock"), description="folder that holds all state of the stack")
    config: Path | None = Field(None, description="TOML file of settings, one table per section")
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    mlflow: MlflowSettings = MlflowSettings()
    tables: TableSettings = TableSettings()
    log: LogSettings = LogSettings()

    @property
    def tables_place(self) -> str:
        """Path or URI; inference tables lie at `<tables>/<catalog>/<schema>/<table>`."""
        return self.tables.location or str(self.state.absolute() / "tables")

    @property
    def logs_folder(self) -> Path:
        """Logs of this node's processes and deployments."""
        return self.state.absolute() / "logs"

    @property
    def key_file(self) -> Path:
        """The key `environment_vars` and secrets are sealed with; never in a log or topic (R16)."""
        return self.state.absolute() / "secret.key"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config_file = os.environ.get(f"{PREFIX}CONFIG")
        if not config_file:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file)


S = TypeVar("S", bound=ServiceSettings)


def load_settings(cls: type[S]) -> S:
    """Read the settings of one process.

    Raises SettingsInvalid, in one line naming every key at fault, for an unknown key, a value out of bounds, or a
    `PENSTOCK_CONFIG` that cannot be read.
    """
    config_file = os.environ.get(f"{PREFIX}CONFIG")
    if config_file and not Path(config_file).is_file():
        raise SettingsInvalid(f"{PREFIX}CONFIG names {config_file}, which is not a file")
    try:
        return cls()
    except ValidationError as error:
        faults = (f"{_variable_name(fault['loc'])}: {fault['msg']} (got {fault['input']!r})" for fault in error.errors())
        raise SettingsInvalid("; ".join(faults)) from error
    except (SettingsError, ValueError, OSError) as error:
        raise SettingsInvalid(str(error)) from error


def unknown_variables(environ: Mapping[str, str], sections: Mapping[str, type[BaseModel] | None]) -> list[str]:
    """Names in `environ` that start with the prefix and belong to no section.

    `sections` maps a top-level name to its class, or None for a plain value.
    """
    known = {PREFIX + name.upper() for name, section in sections.items() if section is None}
    for name, section in sections.items():
        if section is not None:
            known |= {f"{PREFIX}{name}_{field}".upper() for field in section.model_fields}
    return sorted(key for key in environ if key.startswith(PREFIX) and key not in known)


def _variable_name(location: tuple[int | str, ...]) -> str:
    return PREFIX + "_".join(str(part) for part in location).upper()
