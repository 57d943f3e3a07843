"""The control log of the running stack, as the commands of this machine read and write it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from services.cli.failures import StackFailure
from services.cli.settings import load_stack_settings
from services.cli.status import read_status
from services.shared.control_events import ControlEvent
from services.shared.endpoints import ControlState

if TYPE_CHECKING:
    from services.shared.event_log import EventLog

R = TypeVar("R")


def read_state() -> ControlState:
    """Up to the log's end. Raises StackFailure without a running stack."""
    return _with_log(lambda log: log.refresh())


def publish(event: ControlEvent) -> ControlState:
    """The state with it. Raises StackFailure without a running stack, and what the log's fold refuses."""
    return _with_log(lambda log: log.publish(event))


def _with_log(ask: Callable[["EventLog"], Awaitable[R]]) -> R:
    from services.shared.event_log import EventLog  # 0.15 s of imports, which other commands do without

    settings = load_stack_settings()
    status = read_status(settings)
    if status is None:
        raise StackFailure(f"no stack is running in {settings.places.root}: `penstock up` starts one")
    kafka = settings.kafka.model_copy(update={"bootstrap": status["kafka"]})

    async def asked() -> R:
        log = EventLog(kafka)
        await log.start()
        try:
            return await ask(log)
        finally:
            await log.stop()

    return asyncio.run(asked())
