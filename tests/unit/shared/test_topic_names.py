import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.topics import outcome_partition


@pytest.mark.parametrize(("pool_id", "partition"), [("e1-a-1", 1), ("e1-a-2", 3), ("e1-b-7", 1)])
def test_a_pool_keeps_its_outcomes_partition_for_ever(pool_id: str, partition: int) -> None:
    assert outcome_partition(pool_id, 4) == partition


@given(st.text(max_size=20), st.integers(1, 64))
def test_it_is_a_partition_there_is(pool_id: str, partitions: int) -> None:
    assert 0 <= outcome_partition(pool_id, partitions) < partitions


def test_all_partitions_get_their_share() -> None:
    assert {outcome_partition(f"e1-a-{generation}", 4) for generation in range(16)} == {0, 1, 2, 3}
