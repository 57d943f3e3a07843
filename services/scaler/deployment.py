"""Whether a pool that is being deployed is ready, has failed, or must be waited for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.shared.presence import ReplicaReport

# databricks_surface §6: the live message, word for word
TIMED_OUT = "Served model creation aborted because the endpoint update timed out. Please see service logs for more information."

MAX_DEATHS = 8  # with the supervisor's backoff about 20 s of dying


@dataclass(frozen=True, slots=True)
class Ready:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    message: str
    timed_out: bool = False


def judge_deployment(
    reports: Sequence[ReplicaReport], wanted: int, deaths: int, waited_s: float, timeout_s: float
) -> Ready | Failed | None:
    """None: keep waiting. One failed replica fails the deployment: all replicas of a pool are made from the same parts.

    `deaths` are those in a row of the replica that died most.
    """
    failed = next((r for r in reports if r.phase == "failed"), None)
    if failed is not None:
        return Failed(failed.message)
    if sum(r.phase == "ready" for r in reports) >= wanted:
        return Ready()
    if deaths >= MAX_DEATHS:
        return Failed("The replica's process dies again and again before it is ready. Please see service logs for more information.")
    return Failed(TIMED_OUT, timed_out=True) if waited_s > timeout_s else None
