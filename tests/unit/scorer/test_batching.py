import pytest

from services.scorer.batching import (
    LARGE_BYTES,
    MOST_MEMBERS,
    choose_batch,
    most_members,
    next_share_s,
)


@pytest.mark.parametrize(
    ("sizes", "share_s", "count"),
    [
        pytest.param([], 0.001, 0, id="nothing waits"),
        pytest.param([10] * 5, 0.001, 5, id="all that waits goes together"),
        pytest.param([10] * 5, None, 1, id="before anything was measured one goes alone"),
        pytest.param([10] * 500, 1e-9, MOST_MEMBERS, id="never more than the most"),
        pytest.param([10] * 50, 0.1, 10, id="a batch takes a second at most"),
        pytest.param([10] * 50, 3.0, 1, id="what takes longer than a second goes alone"),
        pytest.param([LARGE_BYTES + 1, 10], 0.001, 1, id="a large body goes alone"),
        pytest.param([10, LARGE_BYTES + 1, 10], 0.001, 1, id="small ones do not wait for a large one behind them"),
        pytest.param([LARGE_BYTES // 2] * 3, 0.001, 2, id="as many as fit"),
    ],
)
def test_choose_batch(sizes: list[int], share_s: float | None, count: int) -> None:
    assert choose_batch(sizes, share_s) == count


@pytest.mark.parametrize(
    ("known_s", "share_s", "next_s"),
    [
        pytest.param(None, 0.2, 0.2, id="the first is believed"),
        pytest.param(0.1, 0.2, 0.12, id="then it moves slowly"),
        pytest.param(0.001, 0.5, 0.5, id="a far slower one counts at once"),
    ],
)
def test_next_share(known_s: float | None, share_s: float, next_s: float) -> None:
    assert next_share_s(known_s, share_s) == pytest.approx(next_s)


def test_a_slow_model_is_measured_again_and_may_grow() -> None:
    share_s = 1.0
    for _ in range(40):
        share_s = next_share_s(share_s, 0.001)
    assert most_members(share_s) == MOST_MEMBERS
