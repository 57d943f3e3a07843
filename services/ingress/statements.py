"""SQL statements over inference tables: each a folder of this node with its order, and with its result once it has one."""

import asyncio
import fcntl
import hmac
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
from services.ingress.disk_room import room_in
from services.ingress.statement_folder import (
    END,
    ORDER,
    Format,
    chunk_name,
    discard_chunks,
    is_canceled,
    leave,
    leave_end,
    leave_failure,
    read,
)
from services.shared.control_events import PrincipalKind
from services.shared.endpoints import Token
from services.shared.errors import LimitExceeded, RequestRejected
from services.shared.settings import GIB, MIB
from services.shared.table_places import Place

RUNNING_AT_ONCE = 2  # of one ingress process; others wait
LIMIT_S = 600.0
KEPT_S = 3600.0
LINK_S = 900  # an external link works for so long
INLINE_BYTES, EXTERNAL_BYTES = 25 * MIB, GIB
KEPT_BYTES = 10 * GIB  # of all statements of the node; those that end at the same time may pass it by a result each
LOOK_S = 1.0  # how often a running one looks whether another process canceled it
STARTED, LOCK = "started", "lock"

log = logging.getLogger(__name__)


class StatementNotFound(RequestRejected):
    """There is no such statement, or it is somebody else's, or its result is kept no more."""

    code = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked for. Kept as it is in the statement's folder."""

    owner: str
    owner_kind: PrincipalKind
    statement: str
    visible: tuple[str, ...] | None  # tables that are there for the owner; None: all
    endpoints: tuple[str, ...]  # ids of those whose served entities are told then
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
        """Its id. It runs when it is its turn. Raises LimitExceeded."""
        await asyncio.to_thread(self._make_room)  # results may be a gigabyte, and scoring goes on in this loop
        statement_id = str(uuid4())
        folder = self._folder / statement_id
        folder.mkdir(parents=True, mode=0o700)
        limit, hint = (INLINE_BYTES, ", or for EXTERNAL_LINKS") if order.is_inline else (EXTERNAL_BYTES, "")
        told = {
            "owner": order.owner,
            "owner_kind": order.owner_kind,
            "statement": order.statement,
            "visible": order.visible,
            "endpoints": order.endpoints,
            "tables": str(self._tables),
            "row_limit": order.row_limit,
            "parameters": order.parameters,
            "catalog": order.catalog,
            "schema": order.schema,
            "byte_limit": limit,
            "kept_limit": KEPT_BYTES,
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

    def look(self, statement_id: str, caller: Token, is_admin: bool) -> Statement:
        """Raises StatementNotFound."""
        folder = self._folder_of(statement_id)
        order = read(folder / ORDER)
        if order is None or not (is_admin or (order["owner"], order["owner_kind"]) == (caller.principal, caller.kind)):
            raise StatementNotFound(f"Statement {statement_id} does not exist.")
        return _statement(folder, order)

    async def cancel(self, statement_id: str) -> None:
        """Returns when it has stopped; one that another process runs stops `LOOK_S` later. Of one that has ended nothing changes."""
        folder = self._folder_of(statement_id)
        leave_end(folder, "CANCELED")
        if is_canceled(folder) and (task := self._tasks.get(statement_id)):
            task.cancel()
            await asyncio.wait([task])

    def chunk(self, statement: Statement, index: int) -> bytes:
        """In the format that was ordered. Raises StatementNotFound."""
        if statement.manifest is None or not 0 <= index < statement.manifest["total_chunk_count"]:
            raise StatementNotFound(f"Statement {statement.statement_id} has no chunk {index}.")
        return (self._folder_of(statement.statement_id) / chunk_name(index)).read_bytes()

    def linked(self, statement_id: str, index: int, expires: int, signature: str) -> Statement:
        """The statement that a link is for. Raises StatementNotFound."""
        folder = self._folder_of(statement_id)
        order = read(folder / ORDER)
        if order is None or expires < time.time() or not _is_signed(signature, order["link_key"], index, expires):
            raise StatementNotFound("The link is not valid, or no more.")
        return _statement(folder, order)

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, statement_id: str, lock: int) -> None:
        folder, this = self._folder / statement_id, asyncio.current_task()
        assert this is not None, "it runs"
        looking = asyncio.create_task(_cancel_once_asked(this, folder), name="statement-canceled")
        try:
            async with self._turns:
                (folder / STARTED).touch()
                await run(folder)
        finally:
            looking.cancel()
            discard_chunks(folder)
            os.close(lock)
            self._tasks.pop(statement_id, None)

    def _folder_of(self, statement_id: str) -> Path:
        try:
            return self._folder / str(UUID(statement_id))
        except ValueError as error:
            raise StatementNotFound(f"Statement {statement_id} does not exist.") from error

    def _make_room(self) -> None:
        """Forgets what is old. Raises LimitExceeded when the rest is too much."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process forgets, too
                if time.time() - folder.stat().st_mtime > KEPT_S and not _is_held(folder / LOCK):
                    shutil.rmtree(folder, ignore_errors=True)
        if room_in(self._folder, KEPT_BYTES) <= 0:
            raise LimitExceeded("The node has no room for the results of another statement; each is kept for an hour.")


async def run(folder: Path) -> None:
    """Run the order in a process of its own. Cancelled or too slow, it is killed."""
    try:
        async with asyncio.timeout(LIMIT_S):
            status = await run_apart("statement_runner", str(folder))
    except TimeoutError:
        leave_failure(folder, "DEADLINE_EXCEEDED", f"The statement took longer than {LIMIT_S:g} seconds.")
        return
    if status and not (folder / END).exists():
        log.warning("statement process ended", extra={"exit": status})
        leave_failure(folder, "RESOURCE_EXHAUSTED", "The process that ran the statement ended: it may have needed too much memory.")


async def _cancel_once_asked(work: asyncio.Task[None], folder: Path) -> None:
    """Whichever process of the node was asked."""
    while True:
        await asyncio.sleep(LOOK_S)
        if is_canceled(folder):
            work.cancel()
            return


def _statement(folder: Path, order: dict[str, Any]) -> Statement:
    """One that has not ended lives as long as the process that took it."""
    is_alive = _is_held(folder / LOCK)  # asked first: who lets go has left the end
    end = read(folder / END)
    if end is not None:
        is_success = end["state"] == "SUCCEEDED"
        return Statement(folder.name, order, end["state"], None if is_success else end["told"], end["told"] if is_success else None)
    if not is_alive:
        failure = {"error_code": "INTERNAL_ERROR", "message": "The process that ran the statement ended."}
        return Statement(folder.name, order, "FAILED", failure, None)
    return Statement(folder.name, order, "RUNNING" if (folder / STARTED).exists() else "PENDING", None, None)


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
