"""The statement-execution API of the SDK's `w.statement_execution`: SELECT over the inference tables the caller may read."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import Input, parse
from services.ingress.permissions import Guard
from services.ingress.statement_folder import Format
from services.ingress.statement_parameters import ParameterInput, values_of
from services.ingress.statements import LINK_S, Order, Statement, Statements, signature_of
from services.shared.endpoints import ControlState, Endpoint, Token
from services.shared.errors import ParameterInvalid
from services.shared.event_log import EventLog
from services.shared.rights import Level, is_admin, level_of
from services.shared.table_places import SERVED_ENTITIES

API = "/api/2.0/sql/statements"
RESULTS = "/api/2.0/sql/external-results"
MEDIA_TYPES = {"JSON_ARRAY": "application/json", "ARROW_STREAM": "application/vnd.apache.arrow.stream", "CSV": "text/csv"}
_WAIT = re.compile(r"([0-9]{1,2})s")


class StatementInput(Input):
    statement: str = Field(min_length=1)
    warehouse_id: str = ""
    disposition: Literal["INLINE", "EXTERNAL_LINKS"] = "INLINE"
    format: Format = "JSON_ARRAY"
    wait_timeout: str = Field("10s", json_schema_extra={"pattern": "^(0|[5-9]|[1-4][0-9]|50)s$"})
    on_wait_timeout: Literal["CONTINUE", "CANCEL"] = "CONTINUE"
    row_limit: int | None = Field(None, ge=1)
    parameters: list[ParameterInput] = Field(default_factory=list)
    catalog: str = ""
    schema_name: str = Field("", alias="schema")


class StatementExecution:
    """Whoever manages an endpoint may read its table, since rows hold what every caller sent; of a batch's results its owner may, too."""

    def __init__(self, events: EventLog, statements: Statements) -> None:
        self._events = events
        self._statements = statements

    async def execute(self, request: Request, caller: Token) -> Response:
        sent = parse(StatementInput, await read_json_object(request))
        wait_s = to_wait_s(sent)
        state = await self._events.refresh()
        visible = None if is_admin(caller, state) else (*readable_tables(caller, state), SERVED_ENTITIES)
        managed = tuple(endpoint.endpoint_id for endpoint in managed_endpoints(caller, state))
        values_of(sent.parameters)  # what is wrong with them is said now
        parameters = tuple(parameter.model_dump() for parameter in sent.parameters)
        is_inline = sent.disposition == "INLINE"
        order = Order(
            caller.principal,
            caller.kind,
            sent.statement,
            visible,
            managed,
            sent.format,
            is_inline,
            sent.row_limit,
            parameters,
            sent.catalog,
            sent.schema_name,
        )
        statement_id = await self._statements.submit(order)
        await self._statements.wait(statement_id, wait_s)
        statement = self._look(statement_id, caller)
        if sent.on_wait_timeout == "CANCEL" and statement.state in ("PENDING", "RUNNING"):
            await self._statements.cancel(statement_id)
            statement = self._look(statement_id, caller)
        return await self._told(statement, request)

    async def get(self, statement_id: str, request: Request, caller: Token) -> Response:
        return await self._told(self._look(statement_id, caller), request)

    async def chunk(self, statement_id: str, chunk_index: int, request: Request, caller: Token) -> Response:
        return json_response(await self._chunk(self._look(statement_id, caller), chunk_index, request))

    async def cancel(self, statement_id: str, caller: Token) -> Response:
        self._look(statement_id, caller)
        await self._statements.cancel(statement_id)
        return json_response({})

    async def external(self, statement_id: str, chunk_index: int, expires: int, signature: str) -> Response:
        """Needs no token: the link is one."""
        statement = self._statements.linked(statement_id, chunk_index, expires, signature)
        content = await asyncio.to_thread(self._statements.chunk, statement, chunk_index)
        return Response(content, media_type=MEDIA_TYPES[statement.order["format"]])

    def _look(self, statement_id: str, caller: Token) -> Statement:
        return self._statements.look(statement_id, caller, is_admin(caller, self._events.snapshot()))

    async def _told(self, statement: Statement, request: Request) -> Response:
        status: dict[str, Any] = {"state": statement.state}
        if statement.state == "FAILED":
            status["error"] = statement.failure
        told: dict[str, Any] = {"statement_id": statement.statement_id, "status": status}
        if statement.manifest is not None:
            told["manifest"] = {"format": statement.order["format"], **statement.manifest}
            told["result"] = await self._chunk(statement, 0, request)
        return json_response(told)

    async def _chunk(self, statement: Statement, index: int, request: Request) -> dict[str, Any]:
        content = await asyncio.to_thread(self._statements.chunk, statement, index)
        assert statement.manifest is not None, "it has chunks"
        told = dict(statement.manifest["chunks"][index])
        if index + 1 < statement.manifest["total_chunk_count"]:
            link = f"{API}/{statement.statement_id}/result/chunks/{index + 1}"
            told |= {"next_chunk_index": index + 1, "next_chunk_internal_link": link}
        if statement.order["is_inline"]:
            return told | {"data_array": await asyncio.to_thread(json.loads, content)}
        return {"external_links": [told | _external_link(statement, index, str(request.base_url))]}


def to_wait_s(sent: StatementInput) -> float:
    """How long the call waits. Raises ParameterInvalid, also for what is not offered."""
    found = _WAIT.fullmatch(sent.wait_timeout)
    if found is None or not (int(found[1]) == 0 or 5 <= int(found[1]) <= 50):
        raise ParameterInvalid(f"'wait_timeout' must be 0s, or from 5s to 50s; got '{sent.wait_timeout}'.")
    if sent.disposition == "INLINE" and sent.format != "JSON_ARRAY":
        raise ParameterInvalid(f"Format {sent.format} needs the disposition EXTERNAL_LINKS.")
    return float(found[1])


def readable_tables(caller: Token, state: ControlState) -> tuple[str, ...]:
    """By their three-level names: of endpoints the caller manages, and of their batches and the caller's own.

    Inference tables of endpoints that are gone are the admins' alone.
    """
    managed = managed_endpoints(caller, state)
    logged = {endpoint.table.full_name for endpoint in managed if endpoint.table}
    ids = {endpoint.endpoint_id for endpoint in managed}
    own = (caller.principal, caller.kind)
    written = [batch for batch in state.batches.values() if batch.table and not batch.is_running]
    results = {batch.table for batch in written if batch.endpoint_id in ids or (batch.owner, batch.owner_kind) == own}
    return tuple(sorted(logged | results))


def managed_endpoints(caller: Token, state: ControlState) -> list[Endpoint]:
    return [endpoint for endpoint in state.endpoints.values() if level_of(caller, endpoint, state) is Level.CAN_MANAGE]


def _external_link(statement: Statement, index: int, host: str) -> dict[str, Any]:
    expires = int(time.time()) + LINK_S
    signature = signature_of(statement.order["link_key"], index, expires)
    link = f"{host.rstrip('/')}{RESULTS}/{statement.statement_id}/{index}?expires={expires}&signature={signature}"
    return {"external_link": link, "expiration": datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")}


def statement_routes(execution: StatementExecution, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    caller = Depends(guard.identified)

    async def execute(request: Request, token: Any = caller) -> Response:
        return await execution.execute(request, token)

    async def get(statement_id: str, request: Request, token: Any = caller) -> Response:
        return await execution.get(statement_id, request, token)

    async def chunk(statement_id: str, chunk_index: int, request: Request, token: Any = caller) -> Response:
        return await execution.chunk(statement_id, chunk_index, request, token)

    async def cancel(statement_id: str, token: Any = caller) -> Response:
        return await execution.cancel(statement_id, token)

    for path in (API, f"{API}/"):  # older SDKs call it with the slash
        router.add_api_route(path, execute, methods=["POST"])
    router.add_api_route(f"{API}/{{statement_id}}", get, methods=["GET"])
    router.add_api_route(f"{API}/{{statement_id}}/result/chunks/{{chunk_index}}", chunk, methods=["GET"])
    router.add_api_route(f"{API}/{{statement_id}}/cancel", cancel, methods=["POST"])
    router.add_api_route(f"{RESULTS}/{{statement_id}}/{{chunk_index}}", execution.external, methods=["GET"])
    return router
