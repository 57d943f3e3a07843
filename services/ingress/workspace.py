"""The routes `databricks bundle` needs beside those of serving: workspace files and telemetry (databricks_surface §1.1b)."""

import asyncio
import base64
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from services.ingress.bodies import read_body, read_json_object
from services.ingress.http_errors import json_response
from services.ingress.payloads import Flag, Input, parse
from services.ingress.permissions import Guard
from services.ingress.workspace_files import MAX_FILE_BYTES, WorkspaceFiles, require_access, to_parts
from services.shared.endpoints import Token
from services.shared.event_log import EventLog
from services.shared.rights import is_admin

API = "/api/2.0/workspace"
IMPORT_FILE = "/api/2.0/workspace-files/import-file/{path:path}"
BODY_TIMEOUT_S = 60.0


class FolderInput(Input):
    path: str


class DeleteInput(Input):
    path: str
    recursive: Flag = False


class Workspace:
    """Each caller has a home, all share `/Shared`, and admins see everything."""

    def __init__(self, events: EventLog, files: WorkspaceFiles) -> None:
        self._events = events
        self._files = files

    async def status(self, path: str, caller: Token) -> Response:
        return json_response(await asyncio.to_thread(self._files.status, self._parts(path, caller)))

    async def list(self, path: str, caller: Token) -> Response:
        return json_response({"objects": await asyncio.to_thread(self._files.children, self._parts(path, caller))})

    async def make_folders(self, request: Request, caller: Token) -> Response:
        sent = parse(FolderInput, await read_json_object(request))
        await asyncio.to_thread(self._files.make_folders, self._parts(sent.path, caller))
        return json_response({})

    async def delete(self, request: Request, caller: Token) -> Response:
        sent = parse(DeleteInput, await read_json_object(request))
        await asyncio.to_thread(self._files.remove, self._parts(sent.path, caller), sent.recursive)
        return json_response({})

    async def export(self, path: str, caller: Token, *, direct: bool) -> Response:
        content = await asyncio.to_thread(self._files.read, self._parts(path, caller))
        if direct:
            return Response(content, media_type="application/octet-stream")
        return json_response({"content": base64.b64encode(content).decode(), "file_type": "file"})

    async def import_file(self, path: str, request: Request, caller: Token, *, overwrite: bool) -> Response:
        parts = self._parts(f"/{path}", caller)
        content = await read_body(request, MAX_FILE_BYTES, BODY_TIMEOUT_S)
        await asyncio.to_thread(self._files.write, parts, content, overwrite)
        return json_response({})

    def _parts(self, path: str, caller: Token) -> tuple[str, ...]:
        parts = to_parts(path)
        require_access(parts, caller.principal, is_admin(caller, self._events.snapshot()))
        return parts


def workspace_routes(workspace: Workspace, guard: Guard) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    caller = Depends(guard.identified)

    async def status(path: str, token: Any = caller) -> Response:
        return await workspace.status(path, token)

    async def listed(path: str, token: Any = caller) -> Response:
        return await workspace.list(path, token)

    async def make_folders(request: Request, token: Any = caller) -> Response:
        return await workspace.make_folders(request, token)

    async def delete(request: Request, token: Any = caller) -> Response:
        return await workspace.delete(request, token)

    async def export(path: str, direct_download: Flag = False, token: Any = caller) -> Response:
        return await workspace.export(path, token, direct=direct_download)

    async def import_file(path: str, request: Request, overwrite: Flag = False, token: Any = caller) -> Response:
        return await workspace.import_file(path, request, token, overwrite=overwrite)

    router.add_api_route(f"{API}/get-status", status, methods=["GET"])
    router.add_api_route(f"{API}/list", listed, methods=["GET"])
    router.add_api_route(f"{API}/export", export, methods=["GET"])
    router.add_api_route(f"{API}/mkdirs", make_folders, methods=["POST"])
    router.add_api_route(f"{API}/delete", delete, methods=["POST"])
    router.add_api_route(IMPORT_FILE, import_file, methods=["POST"])
    router.add_api_route("/telemetry-ext", _take_telemetry, methods=["POST"], dependencies=[caller])
    return router


async def _take_telemetry(request: Request) -> Response:
    """Databricks' own, about its tools: taken, so that they do not send it again, and kept nowhere."""
    sent = await read_json_object(request)
    events = [sent.get(kind) for kind in ("items", "protoLogs")]
    plain, proto = (len(each) if isinstance(each, list) else 0 for each in events)
    return json_response({"errors": [], "numSuccess": plain, "numProtoSuccess": proto})
