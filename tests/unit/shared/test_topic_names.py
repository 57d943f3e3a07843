import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.topics import outcome_partition


@pytest.mark.parametrize(
    ("pool_id", "source", "partition"),
    [("e1-a-1", 0, 0), ("e1-a-1", 1, 2), ("e1-a-1", 2, 0), ("e1-b-7", 3, 0)],
)
def test_a_source_partition_keeps_its_outcomes_partition_for_ever(pool_id: str, source: int, partition: int) -> None:
    assert outcome_partition(pool_id, source, 4) == partition


@given(st.text(max_size=20), st.integers(0, 100), st.integers(1, 64))
def test_it_is_a_partition_there_is(pool_id: str, source: int, partitions: int) -> None:
    assert 0 <= outcome_partition(pool_id, source, partitions) < partitions


def test_all_partitions_get_their_share() -> None:
    assert {outcome_partition("e1-a-1", source, 4) for source in range(16)} == {0, 1, 2, 3}
