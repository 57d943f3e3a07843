import pytest

from services.logger.progress import HoleInRecords, settle


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        pytest.param([(0, 5), (0, 6)], {0: 7, 1: 0}, id="records in a row"),
        pytest.param([(0, 5), (1, 0), (0, 6), (1, 1)], {0: 7, 1: 2}, id="partitions stand for themselves"),
        pytest.param([(0, 3), (0, 4)], {0: 5, 1: 0}, id="what is logged already changes nothing"),
        pytest.param([(0, 5), (0, 6), (0, 5), (0, 6), (0, 7)], {0: 8, 1: 0}, id="read again after a rebalance"),
        pytest.param([], {0: 5, 1: 0}, id="no record at all"),
    ],
)
def test_progress_is_the_first_offset_not_known_to_be_logged(positions: list[tuple[int, int]], expected: dict[int, int]) -> None:
    assert settle({0: 5, 1: 0}, positions) == expected


@pytest.mark.parametrize(
    "positions",
    [
        pytest.param([(0, 6)], id="a hole of exactly one, which Faust commits past"),
        pytest.param([(0, 5), (0, 9)], id="a hole inside the flush"),
        pytest.param([(1, 1)], id="the first record of a partition is missing"),
    ],
)
def test_a_hole_is_never_acknowledged(positions: list[tuple[int, int]]) -> None:
    with pytest.raises(HoleInRecords):
        settle({0: 5, 1: 0}, positions)
