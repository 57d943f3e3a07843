from pathlib import Path

import pytest

from services.cli.settings import load_stack_settings, setting_lines, without_password
from services.shared.errors import SettingsInvalid


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        pytest.param("PENSTOCK_KAFKA_PROT", "1", "no such setting: PENSTOCK_KAFKA_PROT", id="an unknown name in a section"),
        pytest.param("PENSTOCK_FOO", "1", "no such setting: PENSTOCK_FOO", id="an unknown section"),
        pytest.param("PENSTOCK_REDIS_PORT", "70000", "PENSTOCK_REDIS_PORT: ", id="a value out of bounds"),
        pytest.param("PENSTOCK_CONFIG", "/does/not/exist", "which is not a file", id="a settings file that is not there"),
        pytest.param("PENSTOCK_STATE", "/x" * 60, "PENSTOCK_STATE is too long", id="a folder whose socket would have too long a name"),
    ],
)
def test_a_fault_stops_the_start_in_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid) as refused:
        load_stack_settings()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("table", ["[kafka]\nprot = 1\n", "[kafak]\nport = 1\n"], ids=["an unknown key", "an unknown table"])
def test_a_file_with_an_unknown_name_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: str) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(table)
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    with pytest.raises(SettingsInvalid, match="KAF"):
        load_stack_settings()


def test_a_variable_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text("[kafka]\nport = 1111\n[redis]\nport = 2222\n")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "3333")
    settings = load_stack_settings()
    assert (settings.kafka.port, settings.redis.port) == (3333, 2222)


def test_the_descriptors_of_a_supervised_process_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_READY_FD", "3")
    monkeypatch.setenv("PENSTOCK_LISTEN_FD", "4")
    load_stack_settings()


def test_every_setting_says_what_it_means() -> None:
    lines = list(setting_lines(load_stack_settings()))
    assert [line.variable for line in lines if not line.meaning] == []
    assert {"PENSTOCK_STATE", "PENSTOCK_KAFKA_PORT", "PENSTOCK_INGRESS_PORT"} <= {line.variable for line in lines}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        pytest.param("redis://:secret@db:6379/0", "redis://***@db:6379/0", id="a password alone"),
        pytest.param("https://user:secret@mlflow", "https://***@mlflow", id="a user and a password"),
        pytest.param("http://mlflow/a@b", "http://mlflow/a@b", id="an at sign in a path is kept"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
