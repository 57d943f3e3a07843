import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.errors import SettingsInvalid
from services.shared.secret_box import SecretBox

BOX = SecretBox(bytes(range(64)))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_what_was_sealed_opens_again(value: str) -> None:
    assert BOX.open(BOX.seal(value)) == value


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=4))
def test_a_sealed_value_does_not_show(value: str) -> None:
    assert value.encode() not in base64.b64decode(BOX.seal(value))


def test_a_secret_seals_to_another_text_each_time_and_opens_again() -> None:
    for value in ("hunter2", ""):
        first, second = BOX.seal_anew(value), BOX.seal_anew(value)
        assert len({first, second, BOX.seal(value)}) == 3
        assert (BOX.open(first), BOX.open(second)) == (value, value)


def test_the_same_value_seals_to_the_same_text_so_that_an_unchanged_entity_keeps_its_pool() -> None:
    assert BOX.seal("hunter2") == BOX.seal("hunter2")
    assert BOX.seal("hunter2") != BOX.seal("hunter3")


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(SettingsInvalid, match="sealed with another key file"):
        SecretBox(bytes(64)).open(BOX.seal("hunter2"))


def test_the_first_process_makes_the_key_and_the_next_one_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    first, second = SecretBox.from_file(path), SecretBox.from_file(path)
    assert second.open(first.seal("hunter2")) == "hunter2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("content", [b"", b"not base64!", b"AAAA"], ids=["an empty file", "no base64", "too short a key"])
def test_a_file_that_is_no_key_stops_the_start_in_one_line_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=r"^[^\n]* is not a key file of Penstock$"):
        SecretBox.from_file(path)
    assert path.read_bytes() == content
