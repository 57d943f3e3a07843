from pathlib import Path

import pytest

from services.ingress.submissions.settled import Settled, SettledLog, in_order, read_settled

FIRST, SECOND = Settled(0, 2, 200, b'{"predictions": [1, 2]}', "churn-3"), Settled(2, 1, 400, b"{}", "churn-3")


def appended(file: Path, *settled: Settled) -> None:
    with SettledLog(file) as log:
        for one in settled:
            log.append(one)
        log.sync()


def test_what_was_settled_is_read_as_it_came_and_in_the_order_of_rows(tmp_path: Path) -> None:
    appended(tmp_path / "settled", SECOND, FIRST)

    assert list(read_settled(tmp_path / "settled")) == [SECOND, FIRST]
    assert list(in_order(tmp_path / "settled")) == [FIRST, SECOND]


def test_nothing_is_settled_before_anything_is(tmp_path: Path) -> None:
    assert [*read_settled(tmp_path / "settled"), *in_order(tmp_path / "settled")] == []


def test_a_repeat_changes_nothing(tmp_path: Path) -> None:
    appended(tmp_path / "settled", FIRST, Settled(0, 2, 500, b"", ""))

    assert list(in_order(tmp_path / "settled")) == [FIRST]


@pytest.mark.parametrize("torn", [1, 3, 4, 10], ids=lambda n: f"{n} bytes of a record were written")
def test_a_torn_end_is_cut_off_before_more_is_appended(torn: int, tmp_path: Path) -> None:
    file = tmp_path / "settled"
    appended(file, FIRST)
    whole = file.stat().st_size
    appended(file, SECOND)
    file.write_bytes(file.read_bytes()[: whole + torn])

    assert list(in_order(file)) == [FIRST]
    appended(file, SECOND)
    assert list(in_order(file)) == [FIRST, SECOND]
