"""Replicas of a pool in service that do not come up: which to stop, why, and since when nobody answers. Pure."""

from collections.abc import Sequence

from services.shared.node import ReplicaProcess
from services.shared.presence import ReplicaReport

CRASHES = 3  # deaths in a row of a replica's process until it counts as one that dies again and again


class Recovery:
    """`failure` says for the user why replicas are missing, "" while none is known to fail. `now` is monotonic seconds throughout."""

    def __init__(self, pause_s: float, limit_s: float) -> None:
        self._pause_s = pause_s
        self._limit_s = limit_s
        self._retry_at = float("-inf")
        self._silent_since: float | None = None
        self.failure = ""

    def see(self, staying: Sequence[ReplicaProcess], reports: Sequence[ReplicaReport], now: float) -> list[str]:
        """Take one look; returns the replicas to stop. The supervisor restarts what died, with pauses of its own.

        One that dies soon after each time it was ready is not well while it is ready.
        """
        failed = {r.replica_id: r.message for r in reports if r.phase == "failed"}
        ready = {r.replica_id for r in reports if r.phase == "ready"}
        stopped = [p.replica_id for p in staying if p.replica_id in failed]
        crashing = [p for p in staying if p.deaths >= CRASHES]
        well = any(p.replica_id in ready and p.deaths < CRASHES for p in staying)
        if stopped:
            self.failure, self._retry_at = failed[stopped[-1]], now + self._pause_s
        elif crashing and not well:
            self.failure = f"The replica's process dies again and again; {crashing[-1].last_words}"
        elif well and now >= self._retry_at:
            self.failure = ""
        if well or not self.failure:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        return stopped

    def pauses(self, now: float) -> bool:
        """No other replica is tried yet."""
        return now < self._retry_at

    def has_failed(self, now: float) -> bool:
        """For so long that it will hardly recover by itself; it is tried all the same."""
        return self._silent_since is not None and now - self._silent_since >= self._limit_s
