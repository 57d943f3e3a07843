"""Whether the one lane of a model that computes waits, when it comes free, for as many more requests as it just had. Pure.

Where a batch costs hardly more than one request (a forest: 25 ms for one row, 27 for 64), callers that send their next request
when they have an answer come back in a wave. The first of it would go with whoever waits, the others a whole evaluation later, and
so it stays: 64 callers get 1,150 answers a second instead of 1,600. Callers that come evenly gain nothing: that shows, and ends it.
"""

from services.scorer.backoff import Backoff

LONGEST = 0.5  # of the last evaluation: the wave takes some 10 ms to come back
LEAST_S = 0.002  # not worth a timer below
LONGEST_PAUSE = 32  # evaluations
GAIN = 1.5  # times what comes in that time anyway, if it comes evenly


class Patience:
    def __init__(self) -> None:
        self._backoff = Backoff(longest_pause=LONGEST_PAUSE)
        self._expected = 0
        self._had = 0
        self._took_s = self._began_s = 0.0

    def begin(self, members: int, waiting: int, took_s: float, at_s: float) -> float:
        """A batch of `members` is done and `waiting` wait. How many seconds the lane waits for them to come back, at most."""
        longest_s = took_s * LONGEST
        if longest_s < LEAST_S:
            return 0.0
        if self._backoff.is_paused:
            self._backoff.left_out()
            return 0.0
        self._expected, self._had, self._took_s, self._began_s = waiting + members, waiting, took_s, at_s
        return longest_s

    def holds(self, waiting: int) -> bool:
        return waiting < self._expected

    def end(self, waiting: int, at_s: float) -> None:
        """The lane goes on with what waits now."""
        gained = (waiting - self._had) / max(1, self._had)
        self._backoff.learn(gained > GAIN * (at_s - self._began_s) / self._took_s)
        self._expected = 0
