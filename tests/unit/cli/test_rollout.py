from itertools import islice

import pytest

from services.cli.rollout import failure_of, pauses, states_of
from services.shared.control_events import ControlEvent, UpdateCanceled
from tests.unit.cli.endpoint_objects import endpoint_after
from tests.unit.shared.control_log import config, created, failed, ready, requested

NEW = created(config("1", "2", shares=(80, 20)))
SERVING = (NEW, ready("a"), ready("b"))
LOGS = "\n  more: penstock endpoints logs churn a --build"


@pytest.mark.parametrize(
    ("events", "states", "failure"),
    [
        pytest.param((NEW, ready("b")), ["creating", "ready"], None, id="under way"),
        pytest.param(SERVING, ["ready", "ready"], None, id="done"),
        pytest.param((*SERVING, requested(config("3"), based_on=1)), ["creating"], None, id="the next config, not the one that serves"),
        pytest.param((NEW, failed("a")), ["failed", "aborted"], f"the update of 'churn' failed: no such package{LOGS}", id="failed"),
        pytest.param(
            (NEW, failed("a", message="not ready in time", timed_out=True)),
            ["aborted", "aborted"],
            f"the update of 'churn' failed: not ready in time{LOGS}",
            id="not in time",
        ),
        pytest.param(
            (NEW, UpdateCanceled(endpoint_id="e1", version=1, at_ms=5)),
            ["aborted", "aborted"],
            "the update of 'churn' was canceled",
            id="canceled",
        ),
    ],
)
def test_how_far_an_update_is(events: tuple[ControlEvent, ...], states: list[str], failure: str | None) -> None:
    endpoint = endpoint_after(*events)
    assert ([state for _, state in states_of(endpoint)], failure_of(endpoint)) == (states, failure)


def test_pauses_grow_so_that_a_long_wait_asks_seldom() -> None:
    taken = list(islice(pauses(), 25))
    assert (taken[0], taken[1], taken[-1]) == (0.5, 1.0, 10.0)
