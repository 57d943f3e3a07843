"""What a model worker says: captured, redacted, and put into the service log line by line."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Mapping

from services.scorer.redaction import redact, split_line, to_secrets

LONGEST_LINE = 64 * 1024
LAST_LINES = 5  # those that a failure quotes
QUOTED_CHARS = 300  # of one of them
REST_S = 1.0  # what a worker said last comes with its end; a process that it left may hold the pipe for ever

log = logging.getLogger(__name__)


class WorkerOutput:
    """The reading end of a pipe. Made by `open_output`, read until the last of its writers is gone or `end` has waited long enough."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport, secrets: tuple[str, ...]) -> None:
        self._transport = transport
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._relaying = asyncio.create_task(self._relay(reader, secrets), name="model-worker-output")

    @property
    def last_lines(self) -> str:
        """In one line, without secrets; empty when nothing was said."""
        return " | ".join(self._last)

    async def end(self) -> None:
        """Once the worker is gone: read what is left, and close."""
        try:
            async with asyncio.timeout(REST_S):
                await self._relaying
        except TimeoutError:
            log.warning("output of a model worker that ended is held by a process it left, and read no more")
        finally:
            self.close()

    def close(self) -> None:
        self._relaying.cancel()
        self._transport.close()

    async def _relay(self, reader: asyncio.StreamReader, secrets: tuple[str, ...]) -> None:
        rest = b""
        while chunk := await reader.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            told, rest = split_line(rest, LONGEST_LINE, secrets)
            for line in [*lines, told] if told else lines:
                self._tell(line, secrets)
        if rest:
            self._tell(rest, secrets)

    def _tell(self, line: bytes, secrets: tuple[str, ...]) -> None:
        text = redact(line.decode(errors="replace"), secrets)
        log.info("model output", extra={"line": text})
        if text.strip():
            self._last.append(text.strip()[:QUOTED_CHARS])


async def open_output(variables: Mapping[str, str]) -> tuple[WorkerOutput, int]:
    """Also the descriptor to write to, which is the caller's to hand over and to close. Of `variables` no value is ever told."""
    readable, writable = os.pipe()
    reader = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(readable, "rb", 0)
        )
    except BaseException:
        os.close(writable)
        raise
    return WorkerOutput(reader, transport, to_secrets(variables.values())), writable
