"""How many replicas a pool has, and is wanted to have, while something else goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event, Thread

import httpx

from bench.penstock import Stack
from services.cli.metrics import parse_samples

LOOK_EVERY_S = 0.25
PATIENCE_S = 120.0
WANTED, READY = "penstock_pool_replicas_wanted", "penstock_pool_replicas_ready"


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

    def __init__(self, stack: Stack, endpoint: str) -> None:
        self._stack = stack
        self._endpoint = endpoint
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
        with httpx.Client(base_url=self._stack.host, headers={"Authorization": f"Bearer {self._stack.token}"}, timeout=60) as client:
            while not self._stop.wait(LOOK_EVERY_S):
                if (size := look(client, self._endpoint)) is not None:
                    self._seen.append(size)


def look(client: httpx.Client, endpoint: str) -> Size | None:
    """None while the pool has no report, or the stack cannot say."""
    try:
        answer = client.get("/metrics")
    except httpx.TransportError:
        return None
    if answer.status_code != 200:
        return None
    samples = [s for s in parse_samples(answer.text) if s.labels.get("endpoint_name") == endpoint]
    found = {s.name: int(s.value) for s in samples if s.name in (WANTED, READY)}
    return Size(time.monotonic(), found[WANTED], found[READY]) if len(found) == 2 else None


def wait_for_size(stack: Stack, endpoint: str, wanted: int) -> None:
    """Until the pool has that size, wanted and ready."""
    give_up_at = time.monotonic() + PATIENCE_S
    with httpx.Client(base_url=stack.host, headers={"Authorization": f"Bearer {stack.token}"}, timeout=60) as client:
        while (size := look(client, endpoint)) is None or (size.wanted, size.ready) != (wanted, wanted):
            assert time.monotonic() < give_up_at, f"{endpoint} has not come to {wanted} replicas: {size}"
            time.sleep(0.1)


def replica_seconds(steps: Sequence[tuple[float, int]], until_s: float) -> float:
    """What those sizes add up to."""
    ends = [at for at, _ in steps[1:]] + [until_s]
    return sum((end - at) * size for (at, size), end in zip(steps, ends, strict=True))
