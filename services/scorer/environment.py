"""The model's own virtual environment: built with uv, named by its content, shared by the replicas of a node."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from uv import find_uv_bin

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.node_lock import node_lock
from services.scorer.requirements import EnvironmentSpec

TRIES = 3
PAUSE_S = 2.0
COMPLETE = ".complete"  # environments cannot be moved, so one is built in its place and marked when it is whole
HOST_PYTHON = ".".join(map(str, sys.version_info[:3]))


async def build_environment(spec: EnvironmentSpec, model: Path, state: Path, build_log: BuildLog) -> Path:
    """Return the environment's interpreter (`state` is absolute). Raises DeploymentFailed with uv's own last words."""
    folder = environment_folder(state, spec.digest)
    async with node_lock(environment_lock(state, spec.digest)):
        if (folder / COMPLETE).exists():
            (folder / COMPLETE).touch()  # used now
            build_log.write(f"Environment {spec.digest} is there already.")
            return folder / "bin" / "python"
        interpreter = await _find_python(spec, build_log)
        for attempt in range(1, TRIES + 1):
            build_log.write(f"Building environment {spec.digest}, try {attempt} of {TRIES}.")
            said = await _build(spec, interpreter, folder, model, build_log)
            if said is None:
                (folder / COMPLETE).write_text(str(await asyncio.to_thread(_size_of, folder)))
                build_log.write("The environment is complete.")
                return folder / "bin" / "python"
            if attempt < TRIES:
                await asyncio.sleep(PAUSE_S * attempt)
        shutil.rmtree(folder, ignore_errors=True)
        raise DeploymentFailed(f"Failed to build the model's environment: {said}")


def environments_folder(state: Path) -> Path:
    return state / "environments"


def environment_folder(state: Path, digest: str) -> Path:
    return environments_folder(state) / digest


def environment_lock(state: Path, digest: str) -> Path:
    """Held by who builds it, or removes it."""
    return environments_folder(state) / f"{digest}.lock"


def read_mark(state: Path, digest: str) -> tuple[float, int] | None:
    """When it was last used, in epoch seconds, and the bytes it takes; None: it is not complete."""
    mark = environment_folder(state, digest) / COMPLETE
    try:
        return mark.stat().st_mtime, int(mark.read_text() or 0)  # without text: of a Penstock that kept all for ever
    except FileNotFoundError:
        return None


def _size_of(folder: Path) -> int:
    """Links to what other environments or uv's cache hold are counted, too."""
    return sum(file.stat(follow_symlinks=False).st_size for file in folder.rglob("*"))


async def _build(spec: EnvironmentSpec, interpreter: str, folder: Path, model: Path, build_log: BuildLog) -> str | None:
    """None, or what uv said when it failed."""
    uv = find_uv_bin()
    shutil.rmtree(folder, ignore_errors=True)
    code, said = await build_log.run(uv, "venv", "--no-project", "--python", interpreter, folder, env=_uv_environment())
    if code:
        return said
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(spec.requirements) + "\n")
    # Not compiled: the first load compiles the modules it imports, and writes them down, in a third of the time all of them take.
    install: list[str | Path] = [uv, "pip", "install", "--python", folder / "bin" / "python", "--link-mode", "hardlink"]
    # Relative lines of the file are relative to the model's folder, for uv as for pip: beside an absolute file, from the cwd.
    code, said = await build_log.run(*install, "-r", wanted, cwd=model, env=_uv_environment())
    return said if code else None


async def _find_python(spec: EnvironmentSpec, build_log: BuildLog) -> str:
    """The exact version if it is here, else the same minor; nothing is downloaded."""
    uv = find_uv_bin()
    for version in (spec.python, spec.python_minor):
        code, said = await build_log.run(uv, "python", "find", "--system", "--no-project", version, env=_uv_environment())
        if code == 0:
            return said.splitlines()[-1]
        # uv does not look behind pyenv's shims (traps A12)
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
        found = sorted(pyenv.glob(f"{version}/bin/python")) or sorted(pyenv.glob(f"{version}.*/bin/python"))
        if found:
            return str(found[-1])
    if HOST_PYTHON.startswith(f"{spec.python_minor}."):
        return sys.executable
    raise DeploymentFailed(f"The model asks for Python {spec.python}, and no Python {spec.python_minor} is installed here.")


def _uv_environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    return {**inherited, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
