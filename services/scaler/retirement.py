"""What to do next about a pool nobody routes to any more, so that no record is left behind (R10). Pure."""

from collections.abc import Sequence
from enum import Enum

from services.shared.presence import IngressReport


class Step(Enum):
    DRAIN = "let its replicas finish what is left"
    REFUSE = "nobody is there to finish: start a host that answers what is left"
    STOP = "nothing is left: stop its replicas"
    REMOVE = "nothing is left and nobody is there: delete topic and group"


def next_step(retired_at: int, ingresses: Sequence[IngressReport], lag: int | None, able: int, processes: int) -> Step:
    """Choose the step.

    Only when every live ingress routes by a snapshot from after the retirement can nothing more be appended; only then does
    a lag of 0 mean that it stays 0. `able` counts replicas that answer or will again: a pool with a backlog has served, so one
    that is starting starts again. `processes` counts all there are.
    """
    closed = all(report.routed_from > retired_at for report in ingresses)
    if closed and lag == 0:
        return Step.STOP if processes else Step.REMOVE
    if lag and not able:
        return Step.REFUSE
    return Step.DRAIN
