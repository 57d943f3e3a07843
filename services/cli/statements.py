"""A SELECT by the API: what its caller may read, from any machine."""

import time
from typing import TYPE_CHECKING, Any

from services.cli.failures import ApiRefusal
from services.cli.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

STATEMENTS = "/api/2.0/sql/statements"
PAUSE_S = 0.5


def select(workspace: Workspace, query: str) -> "pa.Table":
    """Raises ApiRefusal for a query that fails, with the API's words, and as `Workspace.ask`. Interrupted, it cancels the query."""
    import pyarrow as pa

    sent = {"statement": query, "disposition": "EXTERNAL_LINKS", "format": "ARROW_STREAM", "wait_timeout": "50s"}
    told = workspace.call("POST", STATEMENTS, json=sent)
    place = f"{STATEMENTS}/{told['statement_id']}"
    try:
        while told["status"]["state"] in ("PENDING", "RUNNING"):
            time.sleep(PAUSE_S)
            told = workspace.get(place)
    except KeyboardInterrupt:
        workspace.ask("POST", f"{place}/cancel")
        raise
    if told["status"]["state"] != "SUCCEEDED":
        fault = told["status"].get("error", {"error_code": "CANCELED", "message": "The query was canceled."})
        raise ApiRefusal(fault["message"], code=fault["error_code"], status=400)
    return pa.concat_tables(_chunks(workspace, told["result"]))


def _chunks(workspace: Workspace, result: dict[str, Any]) -> "list[pa.Table]":
    import pyarrow as pa

    tables = []
    while True:
        link = result["external_links"][0]
        with pa.ipc.open_stream(workspace.ask("GET", link["external_link"]).content) as stream:
            tables.append(stream.read_all())
        if "next_chunk_internal_link" not in link:
            return tables
        result = workspace.get(link["next_chunk_internal_link"])
