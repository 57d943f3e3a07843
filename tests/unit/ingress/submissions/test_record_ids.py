"""Ids of submitted records: the same for the same, sortable by time where that is known, spread evenly."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.submissions.record_ids import draw_of, id_of_record, id_of_sender
from services.shared.envelope import new_request_id

MS = st.integers(0, 2**48 - 1)
OWN = new_request_id()


@given(st.integers(0, 99), st.integers(0, 2**60), MS)
def test_a_record_has_the_id_of_its_place_and_time(partition: int, offset: int, appended_ms: int) -> None:
    made = UUID(id_of_record("t", partition, offset, appended_ms))
    assert (made.version, made.variant, made.int >> 80) == (7, UUID(OWN).variant, appended_ms)
    assert str(made) == id_of_record("t", partition, offset, appended_ms)


def test_no_two_places_share_an_id() -> None:
    places = [(topic, partition, offset, ms) for topic in "ab" for partition in range(3) for offset in range(30) for ms in (1, 2)]
    assert len({id_of_record(*place) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("own", "version"),
    [
        pytest.param("order-7", 5, id="any text"),
        pytest.param("8f14e45f-ceea-467f-a0e6-4c7c5b5f0d3e", 5, id="a UUID that tells no time"),
        pytest.param(OWN, 7, id="one that does"),
    ],
)
def test_what_a_sender_names_has_one_id_at_each_endpoint(own: str, version: int) -> None:
    made = UUID(id_of_sender("e1", own))
    assert (made.version, str(made)) == (version, id_of_sender("e1", own))
    assert version == 5 or made.int >> 80 == UUID(own).int >> 80
    assert id_of_sender("e2", own) != str(made) != own


def test_draws_are_spread_evenly() -> None:
    draws = [draw_of(id_of_record("t", 0, offset, 1)) for offset in range(4_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert 750 < sum(draw < 0.2 for draw in draws) < 850
