"""The supervisor's side of the keeper: tells it, and the journal, every process group; starts another keeper when it dies."""

import asyncio
import logging
import sys
from contextlib import suppress
from pathlib import Path

from services.cli import keeper
from services.cli.plan import failures_in_a_row, restart_pause_s

log = logging.getLogger(__name__)


class KeeperLink:
    """`descriptor` is the state folder's lock: the keeper holds it too, so the folder is free only when nothing is left.

    `journal` is begun anew; who makes the link has seen to what an older one names.
    """

    def __init__(self, descriptor: int, journal: Path) -> None:
        self._descriptor = descriptor
        self._journal = journal
        self._groups: dict[int, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._journal.write_text("")
        await self._spawn()
        self._watch = asyncio.create_task(self._keep_alive(), name="keeper")

    async def stop(self) -> None:
        """Let it go. What is still on its list it ends."""
        if self._watch:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._process and self._process.stdin:
            self._process.stdin.close()
            await self._process.wait()
        self._journal.unlink(missing_ok=True)

    def add(self, group: int) -> None:
        self._groups[group] = keeper.birth_of(group)
        self._note(f"+{group} {self._groups[group]}\n")

    def forget(self, group: int) -> None:
        self._groups.pop(group, None)
        self._note(f"-{group}\n")

    def _note(self, line: str) -> None:
        self._tell(line)
        try:
            with self._journal.open("a") as file:
                file.write(line)
        except OSError as error:  # a full disk: the keeper still knows
            log.warning("journal of process groups not written", extra={"reason": str(error)})

    def _tell(self, lines: str) -> None:
        if self._process and self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.write(lines.encode())

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            keeper.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(self._descriptor,),
            start_new_session=True,
            cwd="/",
        )
        self._tell("".join(f"+{group} {birth}\n" for group, birth in self._groups.items()))

    async def _keep_alive(self) -> None:
        failures = 0
        while True:
            assert self._process is not None, "start() comes first"
            began = asyncio.get_running_loop().time()
            await self._process.wait()
            failures = failures_in_a_row(failures, asyncio.get_running_loop().time() - began)
            log.warning("keeper died, starting another", extra={"pid": self._process.pid})
            await asyncio.sleep(restart_pause_s(failures))
            await self._spawn()
