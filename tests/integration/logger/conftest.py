"""A disk that can really be filled."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import missing


@dataclass(frozen=True)
class SmallDisk:
    folder: Path

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    return

    def free(self) -> None:
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 1 MiB, where a logger whose state is `tmp_path` has its tables. Making one takes root's right to mount."""
    folder = tmp_path / "tables"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "penstock-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        said = f"the right to mount a file system: {mounted.stderr.strip()}"
        missing(said) if os.geteuid() == 0 else pytest.skip(f"missing: {said}")
    yield SmallDisk(folder)
    subprocess.run(["umount", str(folder)], check=True)
