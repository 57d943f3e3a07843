"""SQL statements over inference tables: each a folder of this node with its order, and with its result once it has one."""

import asyncio
import fcntl
import hmac
import json
import logging
import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from services.ingress.apart import run_apart
from services.ingress.statement_folder import FAILURE, MANIFEST, ORDER, Format, chunk_name, leave
from services.shared.errors import RequestRejected
from services.shared.settings import GIB, MIB
from services.shared.table_places import Place

RUNNING_AT_ONCE = 2  # of one ingress process; others wait
LIMIT_S = 600.0
KEPT_S = 3600.0
LINK_S = 900  # an external link works for so long
INLINE_BYTES, EXTERNAL_BYTES = 25 * MIB, GIB
STARTED, CANCELED, LOCK = "started", "canceled", "lock"

log = logging.getLogger(__name__)


class StatementNotFound(RequestRejected):
    """There is no such statement, or it is somebody else's, or its result is kept no more."""

    code = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked for. Kept as it is in the statement's folder."""

    owner: str
    statement: str
    visible: tuple[str, ...] | None  # tables that are there for the owner; None: all
    form: Format
    is_inline: bool
    row_limit: int | None
    parameters: tuple[dict[str, Any], ...] = ()  # as they came, and looked at
    catalog: str = ""  # of names with fewer than three levels, as `schema`
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    statement_id: str
    order: dict[str, Any]
    state: str  # as Databricks names it
    failure: dict[str, str] | None
    manifest: dict[str, Any] | None


class Statements:
    """Any ingress process of the node can look at a statement; the one that took it runs it."""

    def __init__(self, folder: Path, tables: Place) -> None:
        self._folder = folder
        self._tables = tables
        self._turns = asyncio.Semaphore(RUNNING_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def submit(self, order: Order) -> str:
        """Its id. It runs when it is its turn."""
        await asyncio.to_thread(self._forget_old)  # results may be a gigabyte, and scoring goes on in this loop
        statement_id = str(uuid4())
        folder = self._folder / statement_id
        folder.mkdir(parents=True, mode=0o700)
        limit, hint = (INLINE_BYTES, ", or for EXTERNAL_LINKS") if order.is_inline else (EXTERNAL_BYTES, "")
        told = {
            "owner": order.owner,
            "statement": order.statement,
            "visible": order.visible,
            "tables": str(self._tables),
            "row_limit": order.row_limit,
            "parameters": order.parameters,
            "catalog": order.catalog,
            "schema": order.schema,
            "byte_limit": limit,
            "hint": hint,
            "format": order.form,
            "is_inline": order.is_inline,
            "link_key": secrets.token_hex(),
        }
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)  # while it is held somebody is at work
        leave(folder / ORDER, told)
        self._tasks[statement_id] = asyncio.create_task(self._run(statement_id, lock), name="statement")
        return statement_id

    async def wait(self, statement_id: str, timeout_s: float) -> None:
        """Until it has ended, or the time is over."""
        if task := self._tasks.get(statement_id):
            await asyncio.wait([task], timeout=timeout_s)

    def look(self, statement_id: str, caller: str, is_admin: bool) -> Statement:
        """Raises StatementNotFound."""
        folder = self._folder_of(statement_id)
        order = _read(folder / ORDER)
        if order is None or not (is_admin or order["owner"] == caller):
            raise StatementNotFound(f"Statement {statement_id} does not exist.")
        manifest, failure = _read(folder / MANIFEST), _read(folder / FAILURE)
        state = self._state(folder, manifest, failure)
        if state == "FAILED" and failure is None:
            failure = {"error_code": "INTERNAL_ERROR", "message": "The process that ran the statement ended."}
        return Statement(statement_id, order, state, failure, manifest)

    async def cancel(self, statement_id: str) -> None:
        """Returns when it has stopped. Of one that has ended, or that another process runs, nothing changes but what is told of it."""
        (self._folder_of(statement_id) / CANCELED).touch()
        if task := self._tasks.get(statement_id):
            task.cancel()
            await asyncio.wait([task])

    def chunk(self, statement: Statement, index: int) -> bytes:
        """In the format that was ordered. Raises StatementNotFound."""
        if statement.manifest is None or not 0 <= index < statement.manifest["total_chunk_count"]:
            raise StatementNotFound(f"Statement {statement.statement_id} has no chunk {index}.")
        return (self._folder_of(statement.statement_id) / chunk_name(index)).read_bytes()

    def linked(self, statement_id: str, index: int, expires: int, signature: str) -> Statement:
        """The statement that a link is for. Raises StatementNotFound."""
        order = _read(self._folder_of(statement_id) / ORDER)
        if order is None or expires < time.time() or not _is_signed(signature, order["link_key"], index, expires):
            raise StatementNotFound("The link is not valid, or no more.")
        return self.look(statement_id, order["owner"], is_admin=False)

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, statement_id: str, lock: int) -> None:
        folder = self._folder / statement_id
        try:
            async with self._turns:
                (folder / STARTED).touch()
                await run(folder)
        finally:
            os.close(lock)
            self._tasks.pop(statement_id, None)

    def _state(self, folder: Path, manifest: Any, failure: Any) -> str:
        if manifest is not None:
            return "SUCCEEDED"
        if (folder / CANCELED).exists():
            return "CANCELED"
        if failure is not None or not _is_held(folder / LOCK):
            return "FAILED"
        return "RUNNING" if (folder / STARTED).exists() else "PENDING"

    def _folder_of(self, statement_id: str) -> Path:
        try:
            return self._folder / str(UUID(statement_id))
        except ValueError as error:
            raise StatementNotFound(f"Statement {statement_id} does not exist.") from error

    def _forget_old(self) -> None:
        for folder in self._folder.iterdir() if self._folder.exists() else ():
            with suppress(FileNotFoundError):  # another process forgets, too
                if time.time() - folder.stat().st_mtime > KEPT_S and not _is_held(folder / LOCK):
                    shutil.rmtree(folder, ignore_errors=True)


async def run(folder: Path) -> None:
    """Run the order in a process of its own. Cancelled or too slow, it is killed."""
    try:
        async with asyncio.timeout(LIMIT_S):
            status = await run_apart("statement_runner", str(folder))
    except TimeoutError:
        leave(folder / FAILURE, {"error_code": "DEADLINE_EXCEEDED", "message": f"The statement took longer than {LIMIT_S:g} seconds."})
        return
    if status and not (folder / FAILURE).exists():
        log.warning("statement process ended", extra={"exit": status})
        message = "The process that ran the statement ended: it may have needed too much memory."
        leave(folder / FAILURE, {"error_code": "RESOURCE_EXHAUSTED", "message": message})


def signature_of(key: str, index: int, expires: int) -> str:
    return hmac.digest(key.encode(), f"{index}/{expires}".encode(), "sha256").hex()


def _is_signed(signature: str, key: str, index: int, expires: int) -> bool:
    return hmac.compare_digest(signature.encode(), signature_of(key, index, expires).encode())  # as text it would have to be ASCII


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return found
