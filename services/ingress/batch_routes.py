"""Batches of an endpoint by REST: submit, list, look, cancel, results. Whoever may query submits and sees their own; managers see all."""

import asyncio
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import FileResponse
from uuid_utils import uuid7

from services.ingress.batch_folder import UPLOAD, BatchOrder, leave_order, read_order, read_progress
from services.ingress.batch_input import BatchInput, Sent, TableName, kind_of, require_output, to_sent
from services.ingress.batch_uploads import digest_body, room_for_upload, save_body
from services.ingress.batch_view import batch_view
from services.ingress.bodies import read_json_object
from services.ingress.http_errors import json_response
from services.ingress.lasting_files import write_lasting
from services.ingress.payloads import parse
from services.ingress.permissions import Guard, guarded
from services.ingress.preferences import require_key
from services.ingress.settings import IngressServiceSettings
from services.ingress.statement_routes import readable_tables
from services.shared.batches import Batch, BatchNotFound, BatchState, batch_by_key
from services.shared.clock import now_ms
from services.shared.control_events import BatchCanceled, BatchSubmitted
from services.shared.endpoints import ControlState, Endpoint, Token
from services.shared.errors import AlreadyExists, KeyReused, LimitExceeded, RequestRejected
from services.shared.event_log import EventLog
from services.shared.rights import Level, is_admin, level_of
from services.shared.table_places import is_folder, table_at

PREFIXES = ("/api/2.0/serving-endpoints/{name}", "/serving-endpoints/{name}")
MAX_RUNNING = 100  # batches of the workspace; two calls at the same time may pass it by one
FORMS = {"ndjson": ("results.ndjson", "application/x-ndjson"), "parquet": ("results.parquet", "application/vnd.apache.parquet")}


class BatchRunning(RequestRejected):
    """What is asked for is there once the batch has ended."""

    code = "INVALID_STATE"


class NoResults(RequestRejected):
    """The batch ended before any of its rows were known."""

    code = "RESOURCE_DOES_NOT_EXIST"


class BatchesApi:
    """As `Management`: reads fold to the log's end, writes answer once they are folded (R9)."""

    def __init__(self, settings: IngressServiceSettings, events: EventLog) -> None:
        self._events = events
        self._folder = settings.batches_folder
        self._tables = settings.tables_place
        self._limits = settings.ingress

    async def submit(self, request: Request, caller: Token, output_table: str) -> Response:
        """With an `Idempotency-Key` that came before, the batch of then. Raises KeyReused when it was for something else."""
        key = require_key(request.headers.get("idempotency-key", ""))
        hashed = sha256(key.encode()).hexdigest() if key else ""
        state = await self._events.refresh()
        endpoint = guarded(request, state)
        if found := batch_by_key(state.batches, endpoint.endpoint_id, caller.principal, caller.kind, hashed):
            return await self._told(endpoint, _same(found, (await self._read(request, None, output_table)).digest))
        if sum(batch.is_running for batch in state.batches.values()) >= MAX_RUNNING:
            raise LimitExceeded(f"{MAX_RUNNING} batches have not ended yet; wait for one of them.")
        batch_id = str(uuid7())
        folder = self._folder / batch_id
        folder.mkdir(parents=True, mode=0o700)
        try:
            sent = await self._read(request, folder, output_table)
            await asyncio.to_thread(leave_order, folder, self._order(sent, caller, endpoint))
        except BaseException:
            await _remove(folder)
            raise
        event = BatchSubmitted(
            at_ms=now_ms(),
            batch_id=batch_id,
            endpoint_id=endpoint.endpoint_id,
            owner=caller.principal,
            owner_kind=caller.kind,
            key=hashed,
            digest=sent.digest,
            table=sent.table,
        )
        return await self._told(endpoint, await self._submitted(event, folder))

    async def listed(self, request: Request, caller: Token) -> Response:
        """The newest first."""
        state = await self._events.refresh()
        endpoint = guarded(request, state)
        seen = [batch for batch in state.batches.values() if may_see(batch, endpoint, caller, state)]
        return json_response({"batches": await asyncio.to_thread(self._views, endpoint, seen[::-1])})

    async def get(self, request: Request, batch_id: str, caller: Token) -> Response:
        return await self._told(*self._found(request, batch_id, caller, await self._events.refresh()))

    async def cancel(self, request: Request, batch_id: str, caller: Token) -> Response:
        """Of one that has ended nothing changes."""
        endpoint, batch = self._found(request, batch_id, caller, await self._events.refresh())
        if batch.state is BatchState.SUBMITTED:
            state = await self._events.publish(BatchCanceled(at_ms=now_ms(), batch_id=batch_id))
            endpoint, batch = self._found(request, batch_id, caller, state)
        return await self._told(endpoint, batch)

    async def results(self, request: Request, batch_id: str, form: str, caller: Token) -> Response:
        _, batch = self._found(request, batch_id, caller, await self._events.refresh())
        if batch.is_running:
            raise BatchRunning("The batch has not ended yet; its results are there once it has.")
        name, media_type = FORMS[form]
        file = self._folder / batch_id / name
        if not file.exists():
            raise NoResults(f"Batch '{batch_id}' has no results: it ended before it had rows. {batch.message}".rstrip())
        return FileResponse(file, media_type=media_type, filename=f"{batch_id}.{form}")

    async def _read(self, request: Request, folder: Path | None, table: str) -> Sent:
        """All that was sent; the rows lie in the folder then. Without one they are read, and kept nowhere."""
        kind = kind_of(request.headers.get("content-type", ""))
        if kind is None:
            sent = to_sent(parse(BatchInput, await read_json_object(request)), table)
            if sent.kind == "INLINE" and folder is not None:
                await asyncio.to_thread(write_lasting, folder / UPLOAD, sent.asked)
        elif folder is None:
            content = await digest_body(request, self._limits.max_batch_bytes, self._limits.body_timeout_s)
            sent = Sent(kind, "", 0, table, {}, content)
        else:
            room = await asyncio.to_thread(room_for_upload, self._folder, self._limits.max_batch_bytes, self._limits.batches_disk_bytes)
            saved = await save_body(request, folder / UPLOAD, room, self._limits.body_timeout_s)
            sent = Sent(kind, "", saved.size, table, {}, saved.sha256)
        require_output(sent.table)
        return sent

    def _order(self, sent: Sent, caller: Token, endpoint: Endpoint) -> BatchOrder:
        state = self._events.snapshot()
        visible = None if is_admin(caller, state) else readable_tables(caller, state)
        asked = "" if sent.kind == "INLINE" else sent.asked
        return BatchOrder(endpoint.name, sent.kind, asked, sent.size, visible, sent.table, sent.params)

    def _require_new(self, table: str) -> None:
        """Raises AlreadyExists. Tables of other batches the fold refuses, also those that are not written yet.

        A bucket is not asked here, but before the rows are read: it may take its time. A batch that finds something there then fails,
        and nobody's table becomes its owner's to read (`BatchEnded.wrote_table`).
        """
        if table and is_folder(self._tables) and Path(table_at(self._tables, table)).exists():
            raise AlreadyExists(f"Table {table} exists already.")

    async def _submitted(self, event: BatchSubmitted, folder: Path) -> Batch:
        """The batch, or the one that this key was for before. The folder of one that will not be is removed; of one that may be, not."""
        found = self._by_key(event)
        if found is None:
            try:
                self._require_new(event.table)
                return (await self._events.publish(event)).batches[event.batch_id]
            except RequestRejected:
                found = self._by_key(event)  # it came at the same time
                if found is None:
                    await _remove(folder)
                    raise
        await _remove(folder)
        return _same(found, event.digest)

    def _by_key(self, event: BatchSubmitted) -> Batch | None:
        return batch_by_key(self._events.snapshot().batches, event.endpoint_id, event.owner, event.owner_kind, event.key)

    def _found(self, request: Request, batch_id: str, caller: Token, state: ControlState) -> tuple[Endpoint, Batch]:
        """Raises BatchNotFound."""
        endpoint = guarded(request, state)
        batch = state.batches.get(batch_id)
        if batch is None or not may_see(batch, endpoint, caller, state):
            raise BatchNotFound(batch_id)
        return endpoint, batch

    async def _told(self, endpoint: Endpoint, batch: Batch) -> Response:
        [view] = await asyncio.to_thread(self._views, endpoint, [batch])
        return json_response(view)

    def _views(self, endpoint: Endpoint, batches: list[Batch]) -> list[dict[str, Any]]:
        folders = [self._folder / batch.batch_id for batch in batches]
        return [batch_view(endpoint, b, read_order(f), read_progress(f)) for b, f in zip(batches, folders, strict=True)]


def _same(found: Batch, digest: str) -> Batch:
    """Raises KeyReused."""
    if found.digest != digest:
        raise KeyReused("This 'Idempotency-Key' came with another batch before.")
    return found


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def may_see(batch: Batch, endpoint: Endpoint, caller: Token, state: ControlState) -> bool:
    if batch.endpoint_id != endpoint.endpoint_id or batch.state is BatchState.FORGOTTEN:
        return False
    return (batch.owner, batch.owner_kind) == (caller.principal, caller.kind) or level_of(caller, endpoint, state) is Level.CAN_MANAGE


def batch_routes(batches: BatchesApi, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    querier = Depends(guard.querier)

    async def submit(request: Request, output_table: TableName | None = None, token: Any = querier) -> Response:
        return await batches.submit(request, token, output_table or "")

    async def listed(request: Request, token: Any = querier) -> Response:
        return await batches.listed(request, token)

    async def get(request: Request, batch_id: str, token: Any = querier) -> Response:
        return await batches.get(request, batch_id, token)

    async def cancel(request: Request, batch_id: str, token: Any = querier) -> Response:
        return await batches.cancel(request, batch_id, token)

    async def results(request: Request, batch_id: str, format: Literal["ndjson", "parquet"] = "ndjson", token: Any = querier) -> Response:
        return await batches.results(request, batch_id, format, token)

    for prefix in PREFIXES:
        router.add_api_route(f"{prefix}/batches", submit, methods=["POST"])
        router.add_api_route(f"{prefix}/batches", listed, methods=["GET"])
        router.add_api_route(f"{prefix}/batches/{{batch_id}}", get, methods=["GET"])
        router.add_api_route(f"{prefix}/batches/{{batch_id}}/cancel", cancel, methods=["POST"])
        router.add_api_route(f"{prefix}/batches/{{batch_id}}/results", results, methods=["GET"])
    return router
