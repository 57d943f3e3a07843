"""How many replicas a pool has, and is wanted to have, while something else goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from redis import Redis

from bench.penstock import Stack
from services.shared.presence import PoolReport
from services.shared.topics import pool_key

LOOK_EVERY_S = 0.1
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """At a moment of the monotonic clock."""

    at: float
    wanted: int
    ready: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was seen, in order. `began` is the moment that seconds count from."""

    began: float
    seen: Sequence[Size]

    @property
    def steps(self) -> list[tuple[float, int]]:
        """(second, size wanted from then on), the first included."""
        steps: list[tuple[float, int]] = []
        for size in self.seen:
            if not steps or steps[-1][1] != size.wanted:
                steps.append((size.at - self.began, size.wanted))
        return steps

    def first(self, at_least: int, after_s: float, *, ready: bool) -> float:
        """The second at which so many were wanted, or ready; nan for never."""
        for size in self.seen:
            if size.at - self.began >= after_s and (size.ready if ready else size.wanted) >= at_least:
                return size.at - self.began
        return float("nan")


class PoolWatch:
    """Looks while the block lasts."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._seen: list[Size] = []
        self.sizes = Sizes(0.0, self._seen)

    def __enter__(self) -> "PoolWatch":
        self.sizes = Sizes(time.monotonic(), self._seen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Redis.from_url(self._stack.status()["redis"]) as redis:
            while not self._stop.wait(LOOK_EVERY_S):
                if (size := look(redis)) is not None:
                    self._seen.append(size)


def look(redis: Redis) -> Size | None:
    """The scaler's report of the stack's only pool, which `/metrics` shows a second later. None while there is none."""
    for key in redis.scan_iter(match=pool_key("*")):
        if told := redis.get(key):
            report = PoolReport.model_validate_json(told)
            return Size(time.monotonic(), report.wanted, report.ready)
    return None


def size_now(stack: Stack) -> int:
    """Replicas wanted, once they are ready."""
    return _size_when(stack, lambda size: size.wanted == size.ready).wanted


def wait_for_size(stack: Stack, wanted: int) -> None:
    """Until the pool has that size, wanted and ready."""
    _size_when(stack, lambda size: (size.wanted, size.ready) == (wanted, wanted))


def _size_when(stack: Stack, condition: Callable[[Size], bool]) -> Size:
    give_up_at = time.monotonic() + PATIENCE_S
    with Redis.from_url(stack.status()["redis"]) as redis:
        while (size := look(redis)) is None or not condition(size):
            assert time.monotonic() < give_up_at, f"the pool has not come to the size that was waited for: {size}"
            time.sleep(0.1)
    return size


def replica_seconds(steps: Sequence[tuple[float, int]], until_s: float) -> float:
    """What those sizes add up to."""
    ends = [at for at, _ in steps[1:]] + [until_s]
    return sum((end - at) * size for (at, size), end in zip(steps, ends, strict=True))
