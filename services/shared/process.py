"""What every service process does around its own work: settings, telemetry, an event loop, an exit code."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable

import uvloop

from services.shared.errors import SettingsInvalid
from services.shared.settings import S, load_settings
from services.shared.telemetry import start_telemetry, stop_telemetry


def run_service(name: str, settings_class: type[S], serve: Callable[[S], Coroutine[None, None, None]]) -> int:
    """Run one service to its end and return its exit code: 0 when it was asked to leave, 2 for settings that stop the start."""
    try:
        settings = load_settings(settings_class)
        start_telemetry(name, settings.log.level)
        uvloop.run(serve(settings))
    except SettingsInvalid as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    finally:
        stop_telemetry()
    return 0


async def until_stopped(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Return on SIGTERM or SIGINT; raise what ended one of `tasks`, none of which should end by itself."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait(), name="stop-signal")
    done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in done - {stopped}:
        task.result()
