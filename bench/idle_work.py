"""Processes that only count: what work costs its neighbours that is none of Penstock's."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from statistics import median

AUTOGROUP = Path("/proc/self/autogroup")  # Linux shares the processor out among sessions first, where it has it
LEAST_WEIGHT = "19"
ROUNDS = 5
LOOPS = 2_000_000


@contextmanager
def idle_work(processes: int) -> Iterator[None]:
    """So many processes in Linux' idle class, and in sessions of the least weight, while the block lasts or this process lives."""
    with _started(processes, _count_behind_all):
        yield


def slowdown_beside_a_busy_core() -> float | None:
    """How much longer a loop takes on one processor while another counts, by its own CPU time: 1 where they share nothing.

    Two that are threads of one core share its units and caches, and nothing that a scheduler does can take that back. None where there
    is only one processor, or none may be chosen.
    """
    if not hasattr(os, "sched_setaffinity") or len(processors := sorted(os.sched_getaffinity(0))) < 2:
        return None
    mine, other = processors[:2]
    os.sched_setaffinity(0, {mine})
    try:
        alone, beside = [], []
        for _ in range(ROUNDS):
            alone.append(_loop_s())
            with _started(1, _count_on, other):
                beside.append(_loop_s())
    finally:
        os.sched_setaffinity(0, processors)
    return median(beside) / median(alone)


@contextmanager
def _started(processes: int, count: Callable[..., None], *arguments: int) -> Iterator[None]:
    """Until each of them counts."""
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Semaphore(0)
    counting: list[SpawnProcess] = [
        spawn.Process(target=count, args=(begun, os.getpid(), *arguments), daemon=True) for _ in range(processes)
    ]
    for process in counting:
        process.start()
    try:
        for _ in counting:
            begun.acquire()
        yield
    finally:
        for process in counting:
            process.kill()
            process.join()


def _loop_s() -> float:
    """CPU seconds: what others take of the processor is not in it."""
    began = time.process_time()
    for _ in range(LOOPS):
        pass
    return time.process_time() - began


def _count_behind_all(begun: Semaphore, parent: int) -> None:
    os.setsid()
    if AUTOGROUP.exists():
        AUTOGROUP.write_text(LEAST_WEIGHT)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _count(begun, parent)


def _count_on(begun: Semaphore, parent: int, processor: int) -> None:
    os.sched_setaffinity(0, {processor})
    _count(begun, parent)


def _count(begun: Semaphore, parent: int) -> None:
    begun.release()
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass
