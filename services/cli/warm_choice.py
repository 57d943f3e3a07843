"""Which environments have a warm parent. Pure."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

KEPT_S = 24 * 3600.0
GIVEN_UP_S = 3600.0  # a disk that was full, or memory that was short, kills a parent as well as what it imports


class WarmEnvironment(BaseModel):
    """An environment whose workers were started here. `memory_bytes` is what its parent took when it was last looked at."""

    model_config = ConfigDict(frozen=True)

    digest: str
    used_at: float  # epoch seconds
    memory_bytes: int = 0
    unforkable: str = ""  # why it can have no parent, as was found
    given_up_at: float = 0.0  # then


def choose_warm(known: Iterable[WarmEnvironment], now: float, most: int, limit_bytes: int) -> list[str]:
    """Digests of those that were used within KEPT_S, the last used first, at most `most` and within the memory they take together.

    One that would take too much leaves its place to those used before it. What a parent takes is not known before it has run
    once: it is then let go, and remembered. One that could have no parent is tried again after GIVEN_UP_S.
    """
    chosen: list[str] = []
    left_bytes = limit_bytes
    for environment in sorted(known, key=lambda one: one.used_at, reverse=True):
        fits = len(chosen) < most and environment.memory_bytes <= left_bytes
        is_given_up = environment.unforkable and now - environment.given_up_at < GIVEN_UP_S
        if fits and not is_given_up and now - environment.used_at <= KEPT_S:
            chosen.append(environment.digest)
            left_bytes -= environment.memory_bytes
    return chosen
