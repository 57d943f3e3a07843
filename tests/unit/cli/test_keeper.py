import os

import pytest

from services.cli.keeper import birth_of, is_ours, read_groups


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


def test_a_group_whose_number_went_to_another_process_is_not_ours() -> None:
    group = os.getpgid(0)
    assert is_ours(group, birth_of(group))
    assert not is_ours(group, "1")
