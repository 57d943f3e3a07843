"""What may be called how often: the limits an invocation is under, and what was spent of each. Pure."""

from dataclasses import dataclass
from math import ceil

from services.ingress.destinations import Destination
from services.shared.control_events import PrincipalKind, RateLimit
from services.shared.endpoints import Token

MINUTE_S = 60
KEYS = {PrincipalKind.USER: "user", PrincipalKind.SERVICE_PRINCIPAL: "service_principal"}
SLICES = 16  # of a limit: what one process spends before it tells the others at once


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in each window of `window_s` seconds of the clock, by all ingress processes together.

    Windows begin at multiples of their length, so when the next call is possible is known; across a border between two of
    them twice as many calls may come in a row.
    """

    key: str
    calls: int
    window_s: int
    refusal: str


class Meter:
    """What is known to be spent of one limit: by all processes as of the last exchange, and here since. Belongs to one process."""

    __slots__ = ("fresh", "known", "limit", "slice", "window")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.slice = max(1, limit.calls // SLICES)
        self.window = -1  # the number of the window that is counted
        self.known = 0  # as told by Redis
        self.fresh = 0  # spent here, and not told yet

    def is_spent(self, now_s: float) -> bool:
        window = int(now_s) // self.limit.window_s
        if window != self.window:
            self.window, self.known, self.fresh = window, 0, 0
        return self.known + self.fresh >= self.limit.calls

    def is_past(self, now_s: float) -> bool:
        """Nothing is lost with it any more."""
        return int(now_s) // self.limit.window_s != self.window

    def told(self, window: int, fresh: int, total: int) -> None:
        """All processes together had spent `total` in `window`, with `fresh` of ours among it. Late news of a past window is none."""
        if window == self.window:
            self.known, self.fresh = total, self.fresh - fresh

    def retry_after_s(self, now_s: float) -> int:
        """Whole seconds until the next window has begun."""
        return max(1, ceil((int(now_s) // self.limit.window_s + 1) * self.limit.window_s - now_s))


def workspace_limit(calls_per_s: int) -> Limit:
    return Limit("workspace", calls_per_s, 1, f"Too Many Requests: this workspace is limited to {calls_per_s} requests per second.")


def changes_limit(calls: int) -> Limit:
    refusal = f"Too Many Requests: this workspace is limited to {calls} management calls that change something per 5 minutes."
    return Limit("changes", calls, 300, refusal)


def limits_on(to: Destination, caller: Token) -> list[Limit]:
    """The endpoint's own limits that hold for this caller. One that names the caller goes before the one of every user."""
    limits = [_limit(limit, to, "endpoint") for limit in to.rate_limits if limit.key == "endpoint"]
    named = [limit for limit in to.rate_limits if limit.principal == caller.principal and limit.key == KEYS[caller.kind]]
    everyone = [limit for limit in to.rate_limits if limit.principal is None and limit.key == "user"]
    return limits + [_limit(limit, to, f"{KEYS[caller.kind]}:{caller.principal}") for limit in (named or everyone)]


def _limit(limit: RateLimit, to: Destination, whose: str) -> Limit:
    of = "in all" if limit.key == "endpoint" else "of each caller" if limit.principal is None else f"of '{limit.principal}'"
    calls = f"{limit.calls} call{'' if limit.calls == 1 else 's'}"
    refusal = f"Too Many Requests: endpoint '{to.endpoint}' is limited to {calls} per minute {of}."
    return Limit(f"{to.endpoint_id}:{whose}", limit.calls, MINUTE_S, refusal)
