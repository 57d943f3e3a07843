from itertools import islice
from typing import Any

import pytest

from services.cli.failures import ApiRefusal, StackFailure
from services.cli.rollout import failure_of, follow, pauses, states_of
from services.cli.workspace import Workspace
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


class Answering(Workspace):
    """A workspace that gives these answers, one a call."""

    def __init__(self, *answers: dict[str, Any] | BaseException) -> None:
        self.answers = list(answers)

    def endpoint(self, name: str) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses_s: list[float] = []
    monkeypatch.setattr("time.sleep", pauses_s.append)
    return pauses_s


def test_it_waits_as_long_as_it_is_told_and_shows_each_change_once(slept: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    new, done = endpoint_after(NEW), endpoint_after(*SERVING)
    busy = ApiRefusal("later", code="TEMPORARILY_UNAVAILABLE", status=503, retry_after_s=7.0)
    half = endpoint_after(NEW, ready("b"))
    assert follow(Answering(new, busy, half, done), new) == done
    assert slept == [0.5, 1.0, 7.0, 1.5, 2.0]
    shown = capsys.readouterr()
    assert (shown.out, [line.split(" (")[0] for line in shown.err.splitlines()]) == (
        "",
        ["a: creating", "b: creating", "b: ready", "a: ready"],
    )


@pytest.mark.parametrize(
    ("answer", "raised", "said"),
    [
        pytest.param(endpoint_after(NEW, failed("a")), StackFailure, "", id="a failed update"),
        pytest.param(ApiRefusal("gone", code="RESOURCE_DOES_NOT_EXIST", status=404), ApiRefusal, "", id="an endpoint deleted meanwhile"),
        pytest.param(KeyboardInterrupt(), KeyboardInterrupt, "the update goes on", id="Ctrl-C"),
    ],
)
@pytest.mark.usefixtures("slept")
def test_a_wait_that_ends_badly(answer: Any, raised: type[BaseException], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(raised):
        follow(Answering(answer), endpoint_after(NEW))
    assert said in capsys.readouterr().err


def test_pauses_grow_so_that_a_long_wait_asks_seldom() -> None:
    taken = list(islice(pauses(), 25))
    assert (taken[0], taken[1], taken[-1]) == (0.5, 1.0, 10.0)
