import socket
import stat
from pathlib import Path

import pytest

from services.cli.admin_token import read_token, write_profile
from services.cli.failures import StackFailure
from services.cli.kafka_broker import server_properties
from services.cli.ports import LOOPBACK, claim_port
from services.cli.preflight import fetch_kafka_jars, parse_java_version


@pytest.mark.parametrize(
    ("said", "version"),
    [
        pytest.param('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17, id="a current JRE"),
        pytest.param('java version "1.8.0_401"', 8, id="Java 8 calls itself 1.8"),
        pytest.param('openjdk version "25" 2025-09-16', 25, id="a first release has one number"),
        pytest.param("The program java can be found in ...", None, id="something else"),
    ],
)
def test_java_version(said: str, version: int | None) -> None:
    assert parse_java_version(said) == version


def test_the_broker_takes_the_largest_record_and_makes_no_topic_by_itself() -> None:
    lines = server_properties(1000, 1001, Path("/data")).splitlines()
    assert f"message.max.bytes={18 * 1024 * 1024}" in lines
    assert "auto.create.topics.enable=false" in lines
    assert "advertised.listeners=PLAINTEXT://127.0.0.1:1000" in lines


def test_a_profile_is_its_owners_alone_and_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "databrickscfg"
    assert read_token(file) is None
    write_profile(file, "http://127.0.0.1:1", "dapi%1")
    write_profile(file, "http://127.0.0.1:2", "dapi%2")
    assert read_token(file) == "dapi%2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("[DEFAULT]\nhost = http://127.0.0.1:2\n")


def test_jars_that_are_not_there_need_maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackFailure, match="Maven"):
        fetch_kafka_jars()


def test_a_port_somebody_listens_on_names_its_setting() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackFailure, match=f"port {port} for Redis is in use; set PENSTOCK_REDIS_PORT"):
            claim_port(port, "Redis", "PENSTOCK_REDIS_PORT")
