"""A stack of a test's own, on free ports, started and stopped by the `penstock` command: for tests that kill or refuse it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

COMMAND = str(Path(sys.executable).with_name("penstock"))
COMMAND_TIMEOUT_S = 240


class OwnStack:
    def __init__(self, state: Path, **variables: str) -> None:
        ports = {f"PENSTOCK_{part}_PORT": "0" for part in ("KAFKA", "REDIS", "MLFLOW", "INGRESS")}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PENSTOCK_", "DATABRICKS_"))}
        self.state = state
        self.environment = {**kept, **ports, "PENSTOCK_STATE": str(state), **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`penstock ...`, whatever it exits with."""
        return subprocess.run(
            [COMMAND, *arguments],
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def up(self) -> None:
        done = self.run("up")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def process(self, name: str) -> dict[str, Any]:
        return next(process for process in self.status()["processes"] if process["name"] == name)

    def everything(self) -> list[psutil.Process]:
        """The supervisor and all that descends from it."""
        supervisor = psutil.Process(self.status()["supervisor"])
        return [supervisor, *supervisor.children(recursive=True)]
