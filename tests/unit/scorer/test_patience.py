import pytest

from services.scorer.patience import LEAST_S, LONGEST, Patience

TOOK_S = 0.03


def test_a_lane_waits_for_those_it_just_served_beside_those_that_wait() -> None:
    patience = Patience()
    assert patience.begin(members=50, waiting=14, took_s=TOOK_S, at_s=0) == TOOK_S * LONGEST
    assert patience.holds(63)
    assert not patience.holds(64)


@pytest.mark.parametrize(
    ("waiting", "got", "held_s", "waits_again"),
    [
        pytest.param(0, 64, 0.010, True, id="all came back in a wave"),
        pytest.param(32, 64, 0.012, True, id="two waves became one"),
        pytest.param(15, 23, 0.015, False, id="they come evenly: half an evaluation brings half as many more"),
        pytest.param(3, 3, 0.015, False, id="nobody came"),
    ],
)
def test_it_goes_on_only_while_it_gains_more_than_even_arrivals_would(waiting: int, got: int, held_s: float, waits_again: bool) -> None:
    patience = Patience()
    patience.begin(members=32, waiting=waiting, took_s=TOOK_S, at_s=0)
    patience.end(got, at_s=held_s)
    assert not patience.holds(0)
    assert (patience.begin(members=32, waiting=waiting, took_s=TOOK_S, at_s=1) > 0) is waits_again


def test_after_a_while_it_is_tried_again() -> None:
    patience = Patience()
    patience.begin(members=32, waiting=3, took_s=TOOK_S, at_s=0)
    patience.end(3, at_s=LONGEST * TOOK_S)
    assert [patience.begin(members=3, waiting=0, took_s=TOOK_S, at_s=1) > 0 for _ in range(9)] == [False] * 8 + [True]


def test_a_quick_evaluation_is_not_worth_a_timer() -> None:
    assert Patience().begin(members=50, waiting=0, took_s=LEAST_S / LONGEST / 2, at_s=0) == 0
