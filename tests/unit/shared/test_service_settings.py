"""Settings as a service reads them: environment first, then the TOML file, then the default; faults in one line."""

import os
from pathlib import Path

import pytest
from pydantic import Field

from services.shared.errors import SettingsInvalid
from services.shared.settings import (
    KafkaSettings,
    LogSettings,
    MlflowSettings,
    RedisSettings,
    Section,
    ServiceSettings,
    load_settings,
    unknown_variables,
)


class PumpSettings(Section):
    stroke_s: float = Field(2.0, gt=0, description="seconds of one stroke")


class PumpServiceSettings(ServiceSettings):
    pump: PumpSettings = PumpSettings()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "penstock.toml"
    monkeypatch.setenv("PENSTOCK_CONFIG", str(path))
    return path


def test_nothing_set_is_the_defaults() -> None:
    settings = load_settings(PumpServiceSettings)
    assert (settings.pump.stroke_s, settings.kafka, settings.config) == (2.0, KafkaSettings(), None)
    assert settings.tables_place == str(Path.cwd() / ".penstock" / "tables")


def test_a_variable_names_section_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PUMP_STROKE_S", "0.5")
    monkeypatch.setenv("PENSTOCK_STATE", "/elsewhere")
    settings = load_settings(PumpServiceSettings)
    assert (settings.pump.stroke_s, settings.key_file) == (0.5, Path("/elsewhere/secret.key"))


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("[kafka]\nport = 1\noutcome_partitions = 7\n[pump]\nstroke_s = 9\n")
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "2")
    settings = load_settings(PumpServiceSettings)
    kafka = settings.kafka
    assert (kafka.port, kafka.outcome_partitions, kafka.replication_factor, settings.pump.stroke_s) == (2, 7, 1, 9.0)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PUMP_STROKE_S", "")
    assert load_settings(PumpServiceSettings).pump.stroke_s == 2.0


def test_another_services_section_does_not_stop_this_one(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("[turbine]\nblades = 3\n")
    monkeypatch.setenv("PENSTOCK_TURBINE_BLADES", "3")
    monkeypatch.setenv("PENSTOCK_READY_FD", "3")
    load_settings(PumpServiceSettings)


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings(PumpServiceSettings).pump.stroke_s = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param({"PENSTOCK_PUMP_STROKES": "1"}, "PENSTOCK_PUMP_STROKES: Extra inputs are not permitted", id="an unknown key"),
        pytest.param(
            {"PENSTOCK_PUMP_STROKE_S": "0"}, "PENSTOCK_PUMP_STROKE_S: Input should be greater than 0 (got '0')", id="out of bounds"
        ),
        pytest.param({"PENSTOCK_PUMP_STROKE_S": "a\nb"}, r"PENSTOCK_PUMP_STROKE_S: Input should be a valid number", id="no number"),
        pytest.param({"PENSTOCK_KAFKA_PORT": "70000"}, "PENSTOCK_KAFKA_PORT: Input should be less than", id="no port"),
        pytest.param({"PENSTOCK_LOG_LEVEL": "LOUD"}, "PENSTOCK_LOG_LEVEL: String should match pattern", id="no level"),
        pytest.param({"PENSTOCK_CONFIG": "/nowhere.toml"}, "PENSTOCK_CONFIG names /nowhere.toml, which is not a file", id="no file"),
        pytest.param({"PENSTOCK_KAFKA": "x"}, 'error parsing value for field "kafka"', id="a section as a value"),
    ],
)
def test_a_fault_stops_the_start_in_one_line(variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as stopped:
        load_settings(PumpServiceSettings)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PUMP_STROKE_S", "0")
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "-1")
    with pytest.raises(SettingsInvalid, match=r"PENSTOCK_KAFKA_PORT.*; .*PENSTOCK_PUMP_STROKE_S"):
        load_settings(PumpServiceSettings)


@pytest.mark.parametrize("content", [b"[pump", b"\xff", b"[pump]\nstroke_s = -1\n", b"[pump]\nstrokes = 1\n"])
def test_a_file_at_fault_stops_the_start_in_one_line(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(SettingsInvalid) as stopped:
        load_settings(PumpServiceSettings)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("section", [KafkaSettings, RedisSettings, MlflowSettings, LogSettings], ids=lambda section: section.__name__)
def test_every_setting_says_what_it_is(section: type[Section]) -> None:
    assert all(field.description for field in section.model_fields.values())


def test_unknown_variables_are_those_of_no_section() -> None:
    environ = {"PENSTOCK_STATE": "", "PENSTOCK_PUMP_STROKE_S": "", "PENSTOCK_PUMPE_STROKE_S": "", "PENSTOCK_PUMP_X": "", "HOME": ""}
    assert unknown_variables(environ, {"state": None, "pump": PumpSettings}) == ["PENSTOCK_PUMPE_STROKE_S", "PENSTOCK_PUMP_X"]
