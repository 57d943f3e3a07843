from uuid import UUID

import pytest

from services.logger.recent_ids import RecentIds, Seen, least_id, parse_id
from tests.unit.logger.outcomes import NOON_MS


def id_made_at(made_ms: int, number: int = 0) -> str:
    return str(UUID(int=made_ms << 80 | 7 << 76 | 2 << 62 | number))


def window() -> RecentIds:
    recent = RecentIds(NOON_MS, max_ids=10)
    recent.remember([id_made_at(NOON_MS + 500), id_made_at(NOON_MS + 5_000)])
    return recent


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        pytest.param(id_made_at(NOON_MS + 500), Seen.REPEAT, id="remembered"),
        pytest.param(id_made_at(NOON_MS + 500).upper(), Seen.REPEAT, id="written in capitals"),
        pytest.param(id_made_at(NOON_MS + 500, number=1), Seen.NEW, id="made in the same millisecond as a remembered one"),
        pytest.param(id_made_at(NOON_MS + 90_000), Seen.NEW, id="younger than all that is remembered"),
        pytest.param(id_made_at(NOON_MS - 1), Seen.UNKNOWN, id="older than the window"),
        pytest.param("6f1c3d8e-9a52-4b53-8f0e-1c2d3e4f5a6b", Seen.UNKNOWN, id="a UUIDv4 has no time"),
        pytest.param("batch-7/12", Seen.UNKNOWN, id="no UUID at all"),
    ],
)
def test_an_id_is_new_a_repeat_or_for_the_table_to_say(request_id: str, expected: Seen) -> None:
    assert window().look(request_id) is expected


def test_what_leaves_the_window_must_be_looked_up_from_then_on() -> None:
    recent = window()
    recent.forget_before(NOON_MS + 2_500)
    assert recent.look(id_made_at(NOON_MS + 500)) is Seen.UNKNOWN
    assert recent.look(id_made_at(NOON_MS + 5_000)) is Seen.REPEAT
    assert len(recent) == 1


def test_the_floor_never_falls() -> None:
    recent = window()
    recent.forget_before(NOON_MS - 60_000)
    assert recent.floor_ms == NOON_MS


def test_more_ids_than_allowed_raise_the_floor_so_that_no_forgotten_id_counts_as_new() -> None:
    recent = RecentIds(NOON_MS, max_ids=100)
    ids = [id_made_at(NOON_MS + 10 * number) for number in range(1_000)]
    recent.remember(ids)
    assert len(recent) <= 100
    assert Seen.NEW not in {recent.look(request_id) for request_id in ids}


def test_remembering_twice_changes_nothing() -> None:
    recent = window()
    recent.remember([id_made_at(NOON_MS + 500)])
    assert len(recent) == 2


@pytest.mark.parametrize("made_ms", [pytest.param(0, id="the epoch"), pytest.param(NOON_MS, id="a day in 2026")])
def test_the_least_id_sorts_before_every_id_made_then_and_after_those_before(made_ms: int) -> None:
    assert least_id(made_ms) <= id_made_at(made_ms)
    assert parse_id(id_made_at(made_ms))[0] == made_ms
    assert made_ms == 0 or id_made_at(made_ms - 1, 2**62 - 1) < least_id(made_ms)
