"""What the control log makes of batches."""

from dataclasses import replace

import pytest

from services.shared.batches import BatchNotFound, BatchState, batch_by_key
from services.shared.control_events import BatchCanceled, BatchEnded, BatchForgotten, BatchSubmitted, ControlEvent, PrincipalKind
from services.shared.endpoints import ControlState
from services.shared.errors import AlreadyExists, Conflict, EndpointNotFound
from tests.unit.shared.control_log import config, created, fold

ENDPOINT = fold(created(config("1")))


def submitted(batch_id: str = "b1", **more: str) -> BatchSubmitted:
    return BatchSubmitted(batch_id=batch_id, at_ms=5, **{"endpoint_id": "e1", "owner": "ada"} | more)


def ended(state: str = "SUCCEEDED", batch_id: str = "b1") -> BatchEnded:
    return BatchEnded(batch_id=batch_id, state=state, message="", rows=10, failed=1, at_ms=9)


CANCELED, FORGOTTEN = BatchCanceled(batch_id="b1", at_ms=6), BatchForgotten(batch_id="b1", at_ms=10)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        pytest.param([submitted()], BatchState.SUBMITTED, id="it runs once it is submitted"),
        pytest.param([submitted(), CANCELED], BatchState.CANCELING, id="who cancels it waits for its end"),
        pytest.param([submitted(), CANCELED, ended("CANCELED")], BatchState.CANCELED, id="it ends as the runner says"),
        pytest.param([submitted(), CANCELED, ended()], BatchState.SUCCEEDED, id="a batch may be done before it hears of it"),
        pytest.param([submitted(), ended(), CANCELED], BatchState.SUCCEEDED, id="what has ended is not canceled"),
        pytest.param([submitted(table="main.a.b"), ended(), FORGOTTEN], BatchState.FORGOTTEN, id="whose table it is is kept"),
    ],
)
def test_a_batch_goes_from_state_to_state(events: list[ControlEvent], state: BatchState) -> None:
    batch = fold(*events, state=ENDPOINT).batches["b1"]
    assert (batch.state, batch.is_running) == (state, state in (BatchState.SUBMITTED, BatchState.CANCELING))


def test_a_table_that_a_batch_did_not_write_is_not_its_own() -> None:
    failed = ended("FAILED").model_copy(update={"wrote_table": False})
    state = fold(submitted(table="main.a.b"), failed, submitted("b2", table="main.a.b"), state=ENDPOINT)
    assert [batch.table for batch in state.batches.values()] == ["", "main.a.b"]


def test_nothing_is_left_of_a_forgotten_batch_without_a_table() -> None:
    assert fold(submitted(), ended(), FORGOTTEN, state=ENDPOINT).batches == {}


def test_what_came_of_it_is_kept() -> None:
    batch = fold(submitted(), ended("FAILED"), state=ENDPOINT).batches["b1"]
    assert (batch.ended_ms, batch.rows, batch.failed) == (9, 10, 1)


KEYED = submitted(key="k")
RUNNING = fold(submitted(key="k", table="main.a.b"), state=ENDPOINT)


@pytest.mark.parametrize(
    ("state", "event", "refusal"),
    [
        pytest.param(ControlState(), submitted(), EndpointNotFound, id="to no endpoint"),
        pytest.param(RUNNING, submitted(), AlreadyExists, id="the same id again"),
        pytest.param(RUNNING, submitted("b2", key="k"), AlreadyExists, id="the same key again"),
        pytest.param(RUNNING, submitted("b2", table="main.a.b"), AlreadyExists, id="into the table of another"),
        pytest.param(RUNNING, BatchCanceled(batch_id="b2", at_ms=6), BatchNotFound, id="an end to what is not there"),
        pytest.param(RUNNING, FORGOTTEN, Conflict, id="to forget what runs"),
        pytest.param(fold(ended(), state=RUNNING), ended("FAILED"), Conflict, id="a second end"),
        pytest.param(fold(ended(), FORGOTTEN, state=RUNNING), CANCELED, BatchNotFound, id="an end to what is forgotten"),
    ],
)
def test_the_fold_refuses(state: ControlState, event: ControlEvent, refusal: type[Exception]) -> None:
    after = fold(event, state=state)
    assert isinstance(after.verdicts[event.event_id], refusal)
    assert after.batches == state.batches


def test_a_key_is_of_one_caller_and_endpoint_until_its_batch_is_forgotten() -> None:
    other = fold(created(config("1"), "fraud", "e2"), state=RUNNING)
    others = [submitted("b2", key="k", owner="bob"), submitted("b3", key="k", endpoint_id="e2"), submitted("b4"), submitted("b5")]
    state = fold(*others, state=other)
    assert list(state.batches) == ["b1", "b2", "b3", "b4", "b5"]
    assert batch_by_key(state.batches, "e1", "ada", PrincipalKind.USER, "k") == state.batches["b1"]
    assert batch_by_key(state.batches, "e1", "ada", PrincipalKind.SERVICE_PRINCIPAL, "k") is None
    assert batch_by_key(state.batches, "e1", "ada", PrincipalKind.USER, "") is None
    forgotten = fold(ended(), FORGOTTEN, state=RUNNING).batches
    assert batch_by_key(forgotten, "e1", "ada", PrincipalKind.USER, "k") is None
    assert forgotten["b1"] == replace(RUNNING.batches["b1"], state=BatchState.FORGOTTEN, ended_ms=9, rows=10, failed=1, key="")
