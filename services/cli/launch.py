"""`penstock up` and `down` seen from the terminal: launch the supervisor, follow its report, ask it to stop."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO

from services.cli.failures import StackFailure
from services.cli.keeper import end_groups, left_behind
from services.cli.log_files import rotate
from services.cli.preflight import fetch_kafka_jars, find_java, has_kafka_jars
from services.cli.process_names import short_name
from services.cli.progress import Progress
from services.cli.settings import StackSettings
from services.cli.status import Status, ask_to_stop, read_status

LOOK_EVERY_S = 0.1


def up(settings: StackSettings, progress: Progress, *, foreground: bool = False) -> tuple[subprocess.Popen[bytes], Status]:
    """Start the stack; return its supervisor, and the status, when all is ready. Raises StackFailure when it cannot start.

    In the foreground the stack also ends when this process does, whatever ends it.
    """
    _require_free(settings)
    settings.places.logs.mkdir(parents=True, exist_ok=True)
    if not settings.kafka.bootstrap and not has_kafka_jars():
        find_java()
        progress.note("fetching Kafka's jars by Maven (55 MB, once)")
        fetch_kafka_jars()
    supervisor, readable = _launch(settings, foreground)
    try:
        with os.fdopen(readable, "rb") as report:
            status = _follow(report, progress)
    except BaseException:  # Ctrl-C as well: no half-started stack stays behind
        with suppress(ProcessLookupError):
            supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise
    return supervisor, status


def stay(supervisor: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the stack; SIGINT and SIGTERM end it in drain order. Returns its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.send_signal(signal.SIGTERM))
    return supervisor.wait()


def down(settings: StackSettings, progress: Progress) -> None:
    """Ask the supervisor to stop, and return when nothing of the stack is left. Without a stack it does nothing."""
    if not settings.places.root.exists() or is_free(settings):
        groups = left_behind(settings.places.journal)
        end_groups(groups)
        progress.note("ended what a killed stack had left behind" if groups else "no stack is running")
        return
    ask_to_stop(settings)
    leaving: dict[str, None] = {}  # in the order in which they were seen to go
    while not is_free(settings):
        if status := read_status(settings):
            states = {process["name"]: process["state"] for process in status["processes"]}
            leaving |= {name: None for name, state in states.items() if state in ("stopping", "stopped")}
            for name in leaving:
                progress.process(short_name(name), states.get(name, "stopped"))  # a replica that left is on no list any more
        time.sleep(LOOK_EVERY_S)
    progress.note("stopped")


def is_free(settings: StackSettings) -> bool:
    """Whether no supervisor and no keeper holds the state folder."""
    if not settings.places.lock.exists():
        return True
    with settings.places.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _require_free(settings: StackSettings) -> None:
    status = None if is_free(settings) else read_status(settings)
    if status:
        raise StackFailure(
            f"the stack in {settings.places.root} is {status['phase']} already: `penstock status` shows it, "
            "`penstock down` stops it, PENSTOCK_STATE names a folder for another"
        )


def _follow(report: IO[bytes], progress: Progress) -> Status:
    """Show what the supervisor reports until it says ready, and return the status it says it with."""
    for line in report:
        match json.loads(line):
            case {"ready": status}:
                return dict(status)
            case {"failed": reason}:
                raise StackFailure(str(reason))
            case {"process": name, "state": state, "after_s": after_s}:
                progress.process(name, state, after_s)
    raise StackFailure("the supervisor died at its start; see the end of logs/supervisor.log in the state folder")


def _launch(settings: StackSettings, foreground: bool) -> tuple[subprocess.Popen[bytes], int]:
    """The supervisor in a session of its own, and the descriptor its report is read from."""
    readable, writable = os.pipe()
    log_file = settings.places.log_of("supervisor")
    rotate(log_file)
    command = [sys.executable, "-m", "services.cli.supervisor", "--report", str(writable)]
    if foreground:
        command.append("--until-eof")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with log_file.open("ab") as output:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if foreground else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writable,),
            start_new_session=True,
            env=environment,
        )
    os.close(writable)
    return supervisor, readable
