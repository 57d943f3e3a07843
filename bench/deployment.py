"""How long a new version of a model takes until it serves."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.elasticity_report import Finding
from bench.penstock import Stack

ADDED = "toolz==1.0.0"  # a small package that no model needs: with it the environment is another


def deploy(stack: Stack, endpoint: str, model: str, folder: Path, updates: int, found: Callable[[Finding], None]) -> None:
    """Updates of an endpoint, each from its call until the new version is READY: first of the same environment, then of one to be built."""
    took_s = [stack.update(endpoint, model, folder) for _ in range(updates)]
    measured = f"p50 {np.median(took_s):.1f} s, at most {max(took_s):.1f} s"
    what = f"{model}: new version, its environment is there, {updates} updates"
    found(Finding(what, "READY in under 15 s", measured, max(took_s) < 15, of_speed=True))
    with tempfile.TemporaryDirectory(prefix="pbench") as copied:
        other = Path(shutil.copytree(folder, Path(copied) / model))
        with (other / "requirements.txt").open("a") as requirements:
            requirements.write(f"\n{ADDED}\n")
        built_s = stack.update(endpoint, model, other)
    what = f"{model}: new version, its environment is to be built of cached packages"
    found(Finding(what, "READY in under 60 s", f"{built_s:.1f} s", built_s < 60, of_speed=True))
