"""Something that is not always worth trying: after a try that was not, it is left out for a while, then for longer. Pure."""

FIRST_PAUSE = 8  # occasions


class Backoff:
    def __init__(self, longest_pause: int) -> None:
        self._longest_pause = longest_pause
        self._pause = 0
        self._left = 0

    @property
    def is_paused(self) -> bool:
        return self._left > 0

    def left_out(self) -> None:
        """One more occasion of a pause went by."""
        self._left -= 1

    def learn(self, was_worth_it: bool) -> None:
        """How the last try went."""
        self._pause = 0 if was_worth_it else min(self._longest_pause, max(FIRST_PAUSE, 2 * self._pause))
        self._left = self._pause
