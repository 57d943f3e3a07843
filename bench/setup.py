"""What the comparison needs beside the product: the peers, each in an environment of its own, and the load tools."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from rich.console import Console

from bench.load import LoadToolMissing
from bench.places import BENCH, BUILT, PEERS

OHA_VERSION = "1.16.0"
PLOTS = "plots"
UV = str(Path(sys.executable).with_name("uv"))
MISSING = "wrk is missing: apt-get install wrk"


def prepare(console: Console, peers: Sequence[str], *, with_oha: bool = True) -> Path:
    """Make what is missing; returns oha. Raises LoadToolMissing in one line for what cannot be made here."""
    if shutil.which("wrk") is None:
        raise LoadToolMissing(MISSING)
    oha = _find_oha()
    building = _start_oha_build(console) if oha is None and with_oha else None
    for name in peers:
        _environment(console, name, PEERS / name / "requirements.txt")
    _environment(console, PLOTS, BENCH / "requirements.txt")
    if building is not None:
        console.print("waiting for oha to be compiled")
        if building.wait():
            raise LoadToolMissing(f"oha cannot be compiled, see {BUILT / 'oha.log'}")
        oha = _find_oha()
    return oha or BUILT / "oha"


def _environment(console: Console, name: str, requirements: Path) -> None:
    """Build it when its locked requirements are not those it was built of."""
    folder = BUILT / "environments" / name
    stamp, wanted = folder / ".stamp", sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    began_at = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "-r", str(requirements)]
    subprocess.run(install, check=True, env={**os.environ, "VIRTUAL_ENV": str(folder)})
    stamp.write_text(wanted)
    console.print(f"environment of {name}: {time.monotonic() - began_at:.0f} s", highlight=False)


def _find_oha() -> Path | None:
    built = BUILT / "oha" / "bin" / "oha"
    if built.exists():
        return built
    found = shutil.which("oha")
    return Path(found) if found else None


def _start_oha_build(console: Console) -> "subprocess.Popen[bytes]":
    if shutil.which("cargo") is None:
        raise LoadToolMissing("oha is missing and so is cargo, which would compile it (Debian: apt-get install cargo, or rustup)")
    console.print("compiling oha meanwhile, some four minutes, once")
    command = ["cargo", "install", "oha", "--locked", "--version", OHA_VERSION, "--root", str(BUILT / "oha")]
    BUILT.mkdir(exist_ok=True)
    with (BUILT / "oha.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
