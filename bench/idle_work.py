"""Processes that only count, behind all others: what work costs its neighbours that is none of Penstock's."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")  # Linux shares the processor out among sessions first, where it has it
LEAST_WEIGHT = "19"


@contextmanager
def idle_work(processes: int) -> Iterator[None]:
    """So many processes in Linux' idle class, and in sessions of the least weight, while the block lasts or this process lives."""
    spawn = multiprocessing.get_context("spawn")
    counting = [spawn.Process(target=_count, args=(os.getpid(),), daemon=True) for _ in range(processes)]
    for process in counting:
        process.start()
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.join()


def _count(parent: int) -> None:
    os.setsid()
    if AUTOGROUP.exists():
        AUTOGROUP.write_text(LEAST_WEIGHT)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass
