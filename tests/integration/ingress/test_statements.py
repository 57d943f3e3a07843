"""Statements over real Delta tables, each run in its own process, asked for over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from services.ingress import statements
from services.ingress.statement_folder import END, ORDER
from services.shared.control_events import GatewayChanged, TokenCreated
from services.shared.table_places import SERVED_ENTITIES
from tests.unit.ingress.callers import ROBOT, STATE
from tests.unit.ingress.test_permissions import called_by
from tests.unit.shared.control_log import fold

API = "/api/2.0/sql/statements"
GATEWAY = {"inference_table_config": {"enabled": True, "catalog_name": "main", "schema_name": "ml", "table_name_prefix": "churn"}}
LOGGED = fold(GatewayChanged(endpoint_id="e1", gateway=GATEWAY, at_ms=9), state=STATE)
NAMESAKE = TokenCreated(token_id="n", sha256=sha256(b"namesake").hexdigest(), principal="ada", kind=ROBOT, at_ms=10)
MINE, OTHER = "main.ml.churn_payload", "main.ml.gone_payload"
HEAVY = "SELECT count(*) FROM generate_series(1, 3000000) a(x), generate_series(1, 3000000) b(y) WHERE (x * y) % 7 = 3"
PATIENCE_S = 60


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in (MINE, OTHER):
        folder = tmp_path.joinpath("tables", *name.split("."))
        write_deltalake(folder, pa.table({"status_code": pa.array([200, 400, 200], pa.int32()), "request": ["a", "b", None]}))
    return tmp_path


@pytest.fixture
async def ada(state: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with called_by("ada", state, LOGGED) as http:
        yield http


async def executed(http: httpx.AsyncClient, statement: str, **more: Any) -> Any:
    answer = await http.post(API, json={"statement": statement, "warehouse_id": "any", "wait_timeout": "50s", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_rows_come_with_their_columns(ada: httpx.AsyncClient) -> None:
    done = await executed(ada, f"SELECT status_code, count(*) AS n FROM {MINE} GROUP BY status_code ORDER BY 1")
    assert done["status"] == {"state": "SUCCEEDED"}
    assert [(c["name"], c["type_name"]) for c in done["manifest"]["schema"]["columns"]] == [("status_code", "INT"), ("n", "LONG")]
    assert done["result"]["data_array"] == [["200", "2"], ["400", "1"]]
    again = (await ada.get(f"{API}/{done['statement_id']}")).json()
    assert again == done


async def test_rows_over_the_limit_are_left_out_and_that_is_told(ada: httpx.AsyncClient) -> None:
    done = await executed(ada, f"SELECT request FROM {MINE} ORDER BY request", row_limit=1)
    assert (done["manifest"]["truncated"], done["result"]["data_array"]) == (True, [["a"]])


async def test_chunks_follow_one_another(ada: httpx.AsyncClient) -> None:
    done = await executed(ada, "SELECT value, repeat('x', 1000) AS text FROM generate_series(1, 10000) AS t(value)")
    seen, chunk = [], done["result"]
    while True:
        seen += [int(row[0]) for row in chunk["data_array"]]
        if "next_chunk_internal_link" not in chunk:
            break
        chunk = (await ada.get(chunk["next_chunk_internal_link"])).json()
    assert (seen, done["manifest"]["total_chunk_count"]) == (list(range(1, 10_001)), 3)
    assert (await ada.get(f"{API}/{done['statement_id']}/result/chunks/3")).status_code == 404


async def test_external_links_need_no_token_and_cannot_be_guessed(ada: httpx.AsyncClient) -> None:
    done = await executed(ada, f"SELECT request FROM {MINE}", disposition="EXTERNAL_LINKS", format="ARROW_STREAM")
    (link,) = done["result"]["external_links"]
    del ada.headers["Authorization"]
    with pa.ipc.open_stream((await ada.get(link["external_link"])).content) as stream:
        assert stream.read_all()["request"].to_pylist() == ["a", "b", None]
    for other in (link["external_link"][:-1], link["external_link"].replace("expires=1", "expires=2")):
        assert (await ada.get(other)).status_code == 404


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        pytest.param(f"SELECT * FROM {OTHER}", f"There is no table {OTHER}. There are: {MINE}.", id="a table of somebody else"),
        pytest.param(f"DELETE FROM {MINE}", "Only SELECT is allowed here.", id="no SELECT"),
        pytest.param("SELECT * FROM '/etc/passwd'", "three-level names", id="a file"),
        pytest.param(f"SELECT nothing FROM {MINE}", "nothing", id="no such column"),
        pytest.param(f"SELECT 1; SELECT * FROM {MINE}", "One statement at a time", id="two"),
    ],
)
async def test_what_is_refused_fails_and_says_why(ada: httpx.AsyncClient, statement: str, message: str) -> None:
    status = (await executed(ada, statement))["status"]
    assert (status["state"], status["error"]["error_code"]) == ("FAILED", "BAD_REQUEST")
    assert message in status["error"]["message"]


async def test_a_result_too_large_to_be_sent_at_once_says_what_to_do(ada: httpx.AsyncClient) -> None:
    status = (await executed(ada, "SELECT repeat('x', 10000) AS text FROM generate_series(1, 3000)"))["status"]
    assert "EXTERNAL_LINKS" in status["error"]["message"]


async def test_a_statement_is_its_owners_and_the_admins(state: Path) -> None:
    async with called_by("ada", state, LOGGED) as http:
        statement_id = (await executed(http, f"SELECT * FROM {MINE}"))["statement_id"]
    async with called_by("manager", state, LOGGED) as http:
        assert (await http.get(f"{API}/{statement_id}")).status_code == 404
        assert (await http.post(f"{API}/{statement_id}/cancel")).status_code == 404
    async with called_by("querier", state, LOGGED) as http:
        assert "There is no table" in (await executed(http, f"SELECT * FROM {MINE}"))["status"]["error"]["message"]
    async with called_by("admin", state, LOGGED) as http:
        assert (await http.get(f"{API}/{statement_id}")).json()["status"] == {"state": "SUCCEEDED"}
        assert (await executed(http, f"SELECT * FROM {OTHER}"))["status"] == {"state": "SUCCEEDED"}


async def test_a_service_principal_has_no_statements_of_a_user_of_its_name(state: Path) -> None:
    async with called_by("ada", state, LOGGED) as http:
        statement_id = (await executed(http, f"SELECT * FROM {MINE}"))["statement_id"]
    async with called_by("namesake", state, fold(NAMESAKE, state=LOGGED)) as http:
        for answer in (await http.get(f"{API}/{statement_id}"), await http.post(f"{API}/{statement_id}/cancel")):
            assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("who", "told"),
    [
        pytest.param("ada", [["a"]], id="who manages an endpoint: its own"),
        pytest.param("querier", [], id="who manages none: nothing"),
        pytest.param("admin", [["a"], ["b"]], id="an admin: all"),
    ],
)
async def test_served_entities_are_told_to_who_manages_their_endpoint(state: Path, who: str, told: list[Any]) -> None:
    rows = pa.table({"served_entity_id": ["a", "b"], "endpoint_id": ["e1", "e2"]})
    write_deltalake(state.joinpath("tables", *SERVED_ENTITIES.split(".")), rows)
    async with called_by(who, state, LOGGED) as http:
        done = await executed(http, f"SELECT served_entity_id FROM {SERVED_ENTITIES} ORDER BY 1")
    assert done["result"]["data_array"] == told


async def running(http: httpx.AsyncClient) -> str:
    """The id of a slow one."""
    answer = (await http.post(API, json={"statement": HEAVY, "warehouse_id": "any", "wait_timeout": "0s"})).json()
    assert answer["status"]["state"] in ("PENDING", "RUNNING")
    statement_id: str = answer["statement_id"]
    async with asyncio.timeout(PATIENCE_S):
        while (await http.get(f"{API}/{statement_id}")).json()["status"]["state"] != "RUNNING":
            await asyncio.sleep(0.02)
    return statement_id


async def test_a_slow_one_runs_on_until_it_is_canceled(ada: httpx.AsyncClient) -> None:
    path = f"{API}/{await running(ada)}"
    assert (await ada.post(f"{path}/cancel")).json() == {}
    assert (await ada.get(path)).json()["status"] == {"state": "CANCELED"}


async def test_one_that_another_process_cancels_ends_and_stays_canceled(ada: httpx.AsyncClient, state: Path) -> None:
    statement_id = await running(ada)
    path = f"{API}/{statement_id}"
    async with called_by("ada", state, LOGGED) as other, asyncio.timeout(PATIENCE_S):
        assert (await other.post(f"{path}/cancel")).json() == {}
        while statements._is_held(state / "statements" / statement_id / statements.LOCK):
            assert (await other.get(path)).json()["status"] == {"state": "CANCELED"}
            await asyncio.sleep(0.02)
        assert (await other.get(path)).json()["status"] == (await ada.get(path)).json()["status"] == {"state": "CANCELED"}


async def test_to_cancel_one_that_has_succeeded_changes_nothing(ada: httpx.AsyncClient) -> None:
    done = await executed(ada, "SELECT 1")
    assert (await ada.post(f"{API}/{done['statement_id']}/cancel")).json() == {}
    assert (await ada.get(f"{API}/{done['statement_id']}")).json() == done


async def test_results_that_are_kept_fill_no_disk(ada: httpx.AsyncClient, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "KEPT_BYTES", 6_000_000)
    assert (await executed(ada, "SELECT repeat('x', 10000)"))["status"] == {"state": "SUCCEEDED"}
    refused = await executed(ada, "SELECT repeat('x', 1000) FROM generate_series(1, 10000)")  # the first of its chunks has room
    assert (refused["status"]["state"], refused["status"]["error"]["error_code"]) == ("FAILED", "RESOURCE_EXHAUSTED")
    assert "no room" in refused["status"]["error"]["message"]
    assert not list((state / "statements" / refused["statement_id"]).glob("chunk-*"))
    monkeypatch.setattr(statements, "KEPT_BYTES", 1_000)
    answer = await ada.post(API, json={"statement": "SELECT 1", "warehouse_id": "any"})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "RESOURCE_LIMIT_EXCEEDED")
    assert len(list((state / "statements").iterdir())) == 2


async def test_a_result_is_as_large_as_its_text(ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "INLINE_BYTES", 50_000)
    refused = (await executed(ada, "SELECT x > 3 FROM generate_series(1, 20000) s(x)"))["status"]
    assert (refused["state"], refused["error"]["error_code"]) == ("FAILED", "RESOURCE_EXHAUSTED")


async def test_one_that_takes_too_long_is_ended(ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "LIMIT_S", 0.2)
    assert (await executed(ada, HEAVY))["status"]["error"]["error_code"] == "DEADLINE_EXCEEDED"


async def test_one_whose_process_is_gone_has_failed(ada: httpx.AsyncClient, state: Path) -> None:
    done = await executed(ada, "SELECT 1")
    folder = state / "statements" / done["statement_id"]
    (folder / END).unlink()
    assert (folder / ORDER).exists()
    assert (await ada.get(f"{API}/{done['statement_id']}")).json()["status"]["state"] == "FAILED"
