"""Batches over HTTP, without a broker and without a runner: who may do what, what is taken, and what is told."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingress import batch_routes
from services.ingress.batch_folder import UPLOAD, Progress, leave_progress, read_order
from services.ingress.batch_routes import MAX_RUNNING
from services.ingress.batch_uploads import Room
from services.ingress.registry import Registry
from services.ingress.settings import IngressServiceSettings
from services.shared.control_events import BatchEnded, BatchSubmitted
from services.shared.rights import Level
from tests.unit.ingress.callers import LEVELS, ROBOT, STATE, USER
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.ingress.routes_app import app_over
from tests.unit.shared.control_log import fold

BATCHES = "/api/2.0/serving-endpoints/churn/batches"
ROWS = {"dataframe_records": [{"x": 1.5}, {"x": None}]}


class Workspace:
    """The routes over one control log, called by anybody."""

    def __init__(self, folder: Path) -> None:
        self.log = FoldingLog(STATE)
        self.batches = IngressServiceSettings(state=folder).batches_folder
        self.tables = Path(IngressServiceSettings(state=folder).tables_place)
        self._app = app_over(self.log, Registry("http://127.0.0.1:1"), folder)

    async def call(self, who: str, method: str, path: str = BATCHES, **sent: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {who}"} | sent.pop("headers", {})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://penstock", headers=headers) as http:
            return await http.request(method, path, **sent)

    async def submitted(self, who: str = "querier", **sent: Any) -> dict[str, Any]:
        answer = await self.call(who, "POST", **sent or {"json": ROWS})
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        return view

    async def end(self, batch_id: str, **more: Any) -> None:
        await self.log.publish(BatchEnded(**{"batch_id": batch_id, "state": "SUCCEEDED", "rows": 2, "failed": 1, "at_ms": 9} | more))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def folders(workspace: Workspace) -> list[Path]:
    return sorted(workspace.batches.iterdir()) if workspace.batches.exists() else []


@pytest.mark.parametrize("who", LEVELS)
async def test_who_may_query_submits_and_sees_their_own_and_managers_see_all(who: str, workspace: Workspace) -> None:
    level = LEVELS[who]
    of_ada = (await workspace.submitted("querier"))["batch_id"]
    asked = {
        "submit": await workspace.call(who, "POST", json=ROWS),
        "list": await workspace.call(who, "GET"),
        "look": await workspace.call(who, "GET", f"{BATCHES}/{of_ada}"),
        "results": await workspace.call(who, "GET", f"{BATCHES}/{of_ada}/results"),
        "cancel": await workspace.call(who, "POST", f"{BATCHES}/{of_ada}/cancel"),
    }
    statuses = {what: answer.status_code for what, answer in asked.items()}
    if level is None:
        assert set(statuses.values()) == {404}
    elif level is Level.CAN_VIEW:
        assert set(statuses.values()) == {403}
    elif who == "querier" or level is Level.CAN_MANAGE:
        assert statuses == {"submit": 200, "list": 200, "look": 200, "results": 400, "cancel": 200}
        assert len(asked["list"].json()["batches"]) == 2
    else:
        assert statuses == {"submit": 200, "list": 200, "look": 404, "results": 404, "cancel": 404}
        assert [batch["creator"] for batch in asked["list"].json()["batches"]] == [who]


async def test_a_service_principal_of_the_same_name_is_another(workspace: Workspace) -> None:
    event = BatchSubmitted(endpoint_id="e1", owner="querier", owner_kind=ROBOT, at_ms=1)
    await workspace.log.publish(event)
    assert (await workspace.call("querier", "GET", f"{BATCHES}/{event.batch_id}")).status_code == 404


async def test_a_batch_of_another_endpoint_is_not_there(workspace: Workspace) -> None:
    await workspace.log.publish(BatchSubmitted(batch_id="b", endpoint_id="e1", owner="admin", owner_kind=USER, at_ms=1))
    workspace.log._state = fold(state=workspace.log._state)
    assert (await workspace.call("admin", "GET", f"{BATCHES}/b")).status_code == 200
    assert (await workspace.call("admin", "GET", f"{BATCHES.replace('churn', 'fraud')}/b")).status_code == 404


async def test_rows_lie_in_the_folder_before_the_batch_is_told_of(workspace: Workspace) -> None:
    view = await workspace.submitted(json=ROWS | {"params": {"t": 1}, "output_table": "main.ml.scored"})
    folder = workspace.batches / view["batch_id"]
    order = read_order(folder)
    assert order is not None
    assert (order.kind, order.visible, order.params, order.table) == ("INLINE", (), {"t": 1}, "main.ml.scored")
    assert json.loads((folder / UPLOAD).read_text()) == ROWS
    assert view == {
        "batch_id": view["batch_id"],
        "endpoint_name": "churn",
        "creator": "querier",
        "state": "PENDING",
        "counts": {"succeeded": 0, "failed": 0},
        "creation_timestamp": view["creation_timestamp"],
        "source": {"kind": "INLINE", "bytes": (folder / UPLOAD).stat().st_size},
        "output_table": "main.ml.scored",
    }


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [("text/csv; charset=utf-8", "CSV"), ("application/x-ndjson", "NDJSON"), ("application/vnd.apache.parquet", "PARQUET")],
)
async def test_a_file_is_kept_as_it_came(media_type: str, kind: str, workspace: Workspace) -> None:
    content = b"x\n1\n" * 700_000  # more than one piece
    view = await workspace.submitted(content=content, headers={"Content-Type": media_type}, params={"output_table": "a.b.c"})
    assert view["source"] == {"kind": kind, "bytes": len(content)}
    assert view["output_table"] == "a.b.c"
    assert (workspace.batches / view["batch_id"] / UPLOAD).read_bytes() == content


@pytest.mark.parametrize(("source", "kind"), [({"table": "main.ml.churn"}, "TABLE"), ({"sql": "SELECT 1 AS x"}, "SQL")])
async def test_a_table_or_a_select_is_asked_for_by_name(source: dict[str, str], kind: str, workspace: Workspace) -> None:
    view = await workspace.submitted("ada", json={"source": source})
    assert view["source"] == {"kind": kind, **source}
    order = read_order(workspace.batches / view["batch_id"])
    assert order is not None
    assert (order.asked, order.visible) == (next(iter(source.values())), ())


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        pytest.param({"json": {}}, 400, "dataframe_records", id="nothing to score"),
        pytest.param({"json": ROWS | {"inputs": [1]}}, 400, "one of", id="rows in two forms"),
        pytest.param({"json": {"source": {}}}, 400, "source", id="a source that names nothing"),
        pytest.param({"json": {"source": {"table": "a.b.c", "sql": "SELECT 1"}}}, 400, "one", id="a source that names two"),
        pytest.param({"json": {"source": {"table": "../../etc"}}}, 400, "three levels", id="a path for a table"),
        pytest.param({"json": ROWS | {"output_table": "a.b"}}, 400, "three levels", id="a table of two levels"),
        pytest.param({"json": ROWS | {"output_table": "a.b.churn_payload"}}, 400, "inference tables", id="an inference table"),
        pytest.param({"json": ROWS, "params": {"output_table": "a.b.x_payload"}}, 400, "inference tables", id="the same in the address"),
        pytest.param({"content": b"x", "headers": {"Content-Type": "text/html"}}, 415, "text/html", id="a file of another kind"),
        pytest.param({"json": ROWS, "headers": {"Idempotency-Key": "k" * 257}}, 400, "Idempotency-Key", id="a key without end"),
        pytest.param({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "JSON", id="no JSON"),
    ],
)
async def test_what_is_refused_leaves_nothing(sent: dict[str, Any], status: int, word: str, workspace: Workspace) -> None:
    answer = await workspace.call("ada", "POST", **sent)
    assert (answer.status_code, word in answer.json()["message"]) == (status, True), answer.text
    assert folders(workspace) == []
    assert workspace.log.snapshot().batches == {}


async def test_a_table_that_is_there_is_not_written_to(workspace: Workspace) -> None:
    (workspace.tables / "a" / "b" / "c").mkdir(parents=True)
    answer = await workspace.call("ada", "POST", json=ROWS | {"output_table": "a.b.c"})
    assert (answer.status_code, answer.json()["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
    await workspace.submitted(json=ROWS | {"output_table": "a.b.d"})
    assert (await workspace.call("ada", "POST", json=ROWS | {"output_table": "a.b.d"})).status_code == 409
    assert len(folders(workspace)) == 1


async def test_a_key_that_comes_again_finds_its_batch(workspace: Workspace) -> None:
    sent: dict[str, Any] = {"headers": {"Idempotency-Key": "monday"}, "json": ROWS | {"output_table": "a.b.c"}}
    first = await workspace.submitted(**sent)
    (workspace.tables / "a" / "b" / "c").mkdir(parents=True)
    await workspace.end(first["batch_id"])
    again = await workspace.submitted(**sent)
    assert (again["batch_id"], again["state"]) == (first["batch_id"], "SUCCEEDED")
    changed = await workspace.call("querier", "POST", **sent | {"json": {"inputs": [1]}})
    assert (changed.status_code, changed.json()["error_code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (await workspace.submitted("member", headers=sent["headers"], json=ROWS))["batch_id"] != first["batch_id"]
    assert len(folders(workspace)) == 2


class SlowLog(FoldingLog):
    """Somebody with the same key is a moment quicker."""

    async def publish(self, event: Any) -> Any:
        if isinstance(event, BatchSubmitted) and not self.snapshot().batches:
            await super().publish(event.model_copy(update={"batch_id": "quicker", "event_id": "quicker"}))
        return await super().publish(event)


async def test_of_two_that_come_at_once_with_one_key_one_is_the_batch(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.log = SlowLog(STATE)
    workspace._app = app_over(workspace.log, Registry("http://127.0.0.1:1"), tmp_path)
    view = await workspace.submitted(headers={"Idempotency-Key": "k"}, json=ROWS)
    assert view["batch_id"] == "quicker"
    assert folders(workspace) == []


async def test_what_is_told_follows_the_runner_and_the_log(workspace: Workspace) -> None:
    batch_id = (await workspace.submitted())["batch_id"]
    leave_progress(workspace.batches / batch_id, Progress(rows=10, succeeded=4, failed=1, estimated_end_ms=7_000))
    [listed] = (await workspace.call("ada", "GET")).json()["batches"]
    assert (listed["state"], listed["counts"], listed["estimated_end_timestamp"]) == (
        "RUNNING",
        {"rows": 10, "succeeded": 4, "failed": 1},
        7_000,
    )
    canceled = (await workspace.call("querier", "POST", f"{BATCHES}/{batch_id}/cancel")).json()
    assert canceled["state"] == "CANCELING"
    await workspace.end(batch_id, state="CANCELED", rows=10, failed=6, message="Canceled.")
    told = (await workspace.call("querier", "POST", f"{BATCHES}/{batch_id}/cancel")).json()
    assert (told["state"], told["counts"], told["message"]) == ("CANCELED", {"rows": 10, "succeeded": 4, "failed": 6}, "Canceled.")
    assert (told["end_timestamp"], "estimated_end_timestamp" in told) == (9, False)


async def test_results_are_there_once_it_has_ended(workspace: Workspace) -> None:
    batch_id = (await workspace.submitted())["batch_id"]
    early = await workspace.call("querier", "GET", f"{BATCHES}/{batch_id}/results")
    assert (early.status_code, early.json()["error_code"]) == (400, "INVALID_STATE")
    await workspace.end(batch_id)
    assert (await workspace.call("querier", "GET", f"{BATCHES}/{batch_id}/results")).status_code == 404
    assert (await workspace.call("querier", "GET", f"{BATCHES}/{batch_id}/results?format=xml")).status_code == 400


async def test_the_workspace_runs_so_many_at_once(workspace: Workspace) -> None:
    for number in range(MAX_RUNNING):
        await workspace.log.publish(BatchSubmitted(batch_id=str(number), endpoint_id="e1", owner="ada", at_ms=1))
    answer = await workspace.call("ada", "POST", json=ROWS)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "RESOURCE_LIMIT_EXCEEDED")
    await workspace.end("7")
    last: dict[str, Any] = {"json": ROWS, "headers": {"Idempotency-Key": "last"}}
    first = await workspace.submitted(**last)
    assert (await workspace.submitted(**last))["batch_id"] == first["batch_id"], "whose answer was lost"
    assert (await workspace.call("querier", "POST", json=ROWS)).status_code == 400


async def test_a_file_that_comes_again_needs_no_room(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {"content": b"x\n1\n", "headers": {"Content-Type": "text/csv", "Idempotency-Key": "k"}}
    first = await workspace.submitted(**sent)
    monkeypatch.setattr(batch_routes, "room_for_upload", lambda *_: Room(0, 0, 0))
    assert (await workspace.submitted(**sent))["batch_id"] == first["batch_id"]
    assert (await workspace.call("querier", "POST", **sent | {"content": b"x\n2\n"})).status_code == 422
    assert (await workspace.call("ada", "POST", **sent)).status_code == 400
    assert len(folders(workspace)) == 1
