"""Which partition's turn it is."""

import pytest
from aiokafka import TopicPartition

from services.scorer.host import NO_PARTITION, in_turn


@pytest.mark.parametrize(
    ("held", "last", "turns"),
    [
        pytest.param([2, 0, 1], NO_PARTITION, [0, 1, 2], id="from the first on"),
        pytest.param([0, 1, 2], 1, [2, 0, 1], id="after the last one"),
        pytest.param([0, 1, 2], 2, [0, 1, 2], id="from the first again"),
        pytest.param([0, 4], 2, [4, 0], id="the last one may be somebody else's by now"),
        pytest.param([], 2, [], id="none is held"),
    ],
)
def test_partitions_have_their_turns(held: list[int], last: int, turns: list[int]) -> None:
    asked = in_turn([TopicPartition("t", number) for number in held], TopicPartition("t", last))
    assert [partition.partition for partition in asked] == turns
