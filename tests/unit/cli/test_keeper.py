import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.keeper import birth_of, is_ours, left_behind, read_groups


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        pytest.param(["+7 100\n", "+8 200\n"], {7: "100", 8: "200"}, id="what was added is left"),
        pytest.param(["+7 100\n", "-7\n"], {}, id="what ended is not"),
        pytest.param(["-7\n"], {}, id="an end that was never begun changes nothing"),
        pytest.param(["+7 100\n", "-7\n", "+7 300\n"], {7: "300"}, id="a number used again names the younger process"),
    ],
)
def test_read_groups(lines: list[str], left: dict[int, str]) -> None:
    assert read_groups(lines) == left


@pytest.fixture
def other() -> Iterator[int]:
    """A process that leads a group of its own."""
    with subprocess.Popen([sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process.pid
        process.kill()


def test_a_group_whose_number_went_to_another_process_is_not_ours(other: int) -> None:
    assert is_ours(other, birth_of(other))
    assert not is_ours(other, "1")


def test_the_journal_of_a_killed_stack_names_only_what_still_lives(other: int, tmp_path: Path) -> None:
    journal = tmp_path / "processes"
    assert left_behind(journal) == {}
    journal.write_text(f"+{other} {birth_of(other)}\n+{os.getpid()} 1\n+7 \n+8")
    assert left_behind(journal) == {other: birth_of(other)}
