from services.scorer.backoff import FIRST_PAUSE, Backoff


def paused_for(backoff: Backoff) -> int:
    count = 0
    while backoff.is_paused:
        backoff.left_out()
        count += 1
    return count


def test_what_is_not_worth_it_is_tried_ever_less_often_and_again_at_once_when_it_is() -> None:
    backoff, pauses = Backoff(longest_pause=256), []
    assert not backoff.is_paused
    for _ in range(8):
        backoff.learn(was_worth_it=False)
        pauses.append(paused_for(backoff))
    assert (pauses[0], pauses[1], pauses[-1]) == (FIRST_PAUSE, 2 * FIRST_PAUSE, 256)
    backoff.learn(was_worth_it=True)
    assert not backoff.is_paused
    backoff.learn(was_worth_it=False)
    assert paused_for(backoff) == FIRST_PAUSE
