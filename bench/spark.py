"""Whether Spark reads an inference table as it is: `python -m bench spark`."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console

from bench.arrivals import send
from bench.models import request_body, saved_model
from bench.penstock import own_stack
from bench.places import BENCH, BUILT

REQUESTS = 500
JARS = BUILT / "spark"
READERS = BENCH / "readers"
OPENED = ("java.lang", "java.lang.invoke", "java.net", "java.nio", "java.util", "java.util.concurrent", "sun.nio.ch", "sun.util.calendar")
PATIENCE_S = 60.0


class ReadOtherwise(Exception):
    """Spark found something else than there is. Says what."""


def run_spark(console: Console) -> None:
    """Raises ReadOtherwise."""
    fetch_jars(console)
    with own_stack() as stack, stack.serving("linear", saved_model("linear", BUILT / "models")) as endpoint:
        answers = send(stack.url(endpoint), stack.token, request_body(), np.linspace(0, 5, REQUESTS))
        table = stack.table_of(endpoint)
        expected = {"rows": REQUESTS, "requests": REQUESTS, "predictions": REQUESTS - answers.failed, "inserted": REQUESTS}
        wait_for_rows(table)
        began = time.monotonic()
        found = read(table)
    if found != expected:
        raise ReadOtherwise(f"Spark finds {found}, and there are {expected}")
    console.print(f"Spark finds what there is: {found}, in {time.monotonic() - began:.0f} s", highlight=False)


def fetch_jars(console: Console) -> None:
    """By Maven, once; the folder appears only when it is complete."""
    if JARS.exists():
        return
    console.print("fetching Spark and Delta, 280 MB, once")
    partial = JARS.with_name(f"spark.{os.getpid()}")
    try:
        command = ["mvn", "-q", "-B", "-f", str(READERS / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        subprocess.run(command, check=True)
        partial.rename(JARS)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def wait_for_rows(table: Path) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not DeltaTable.is_deltatable(str(table)) or rows_of(table) < REQUESTS:
        assert time.monotonic() < give_up_at, "the rows do not come"
        time.sleep(0.5)


def rows_of(table: Path) -> int:
    return sum(pa.table(DeltaTable(table).get_add_actions())["num_records"].to_pylist())


def read(table: Path) -> dict[str, Any]:
    """What ReadTable.java says. Raises CalledProcessError; what Spark tells meanwhile goes to standard error."""
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    command = ["java", *opened, "-cp", f"{JARS}/*", str(READERS / "ReadTable.java"), str(table)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("found ")).removeprefix("found "))
    return found
