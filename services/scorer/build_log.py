"""The readable log of a deployment, and the commands whose output goes into it."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from services.scorer.redaction import redact

LINE_LIMIT_BYTES = 1024 * 1024


class DeploymentFailed(Exception):
    """The entity cannot be deployed; `str()` is what its owner reads."""


class BuildLog:
    """Appends lines with their time; replicas of a pool share the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        with self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{stamp} {redact(line, ())}\n")

    async def run(self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command, log each line it says, and return its exit code and its last lines. Cancelled: the command is killed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_LIMIT_BYTES,
        )
        assert process.stdout is not None
        said: list[str] = []
        try:
            async for line in process.stdout:
                text = redact(line.decode(errors="replace").rstrip(), ())
                self.write(text)
                said = [*said[-19:], text]
            return await process.wait(), "\n".join(said)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
