"""One process leads, and another one soon after it died."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from services.shared.leadership import SESSION_MS
from services.shared.settings import KafkaSettings

PATIENCE_S = 60.0
CANDIDATE = """
import asyncio, sys
from services.shared import leadership as module
from services.shared.leadership import Leadership
from services.shared.settings import KafkaSettings

async def run():
    module.SESSION_MS = int(sys.argv[4])
    leadership = Leadership(KafkaSettings(bootstrap=sys.argv[1]), sys.argv[2], sys.argv[3])
    await leadership.start()
    while True:
        await leadership.wait()
        print("leads", flush=True)
        await leadership.lost()
        print("follows", flush=True)

asyncio.run(run())
"""


class Candidate:
    """A process of its own that would lead."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.leads = False
        self.led_at = 0.0

    async def listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.leads, self.led_at = line == b"leads\n", time.monotonic()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self.leads = False


@asynccontextmanager
async def candidate(kafka: KafkaSettings, group: str, instance: str = "", session_ms: int = SESSION_MS) -> AsyncIterator[Candidate]:
    command = (sys.executable, "-c", CANDIDATE, kafka.bootstrap, group, instance, str(session_ms))
    started = Candidate(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
    listening = asyncio.create_task(started.listen())
    try:
        yield started
    finally:
        await started.kill()
        await listening


async def leader_of(*candidates: Candidate) -> Candidate:
    """The one that leads, once it has for longer than another one takes to join."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            match [each for each in candidates if each.leads]:
                case [one] if time.monotonic() - one.led_at > 3:
                    return one
            await asyncio.sleep(0.05)


async def leads_within(candidate: Candidate, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not candidate.leads:
            await asyncio.sleep(0.05)


async def test_a_leader_that_dies_is_followed_within_ten_seconds_by_one_that_waits(kafka: KafkaSettings) -> None:
    group = uuid4().hex
    async with candidate(kafka, group) as one, candidate(kafka, group) as other:
        first = await leader_of(one, other)
        await first.kill()
        await leads_within(other if first is one else one, 10)


async def test_a_leader_that_is_restarted_leads_again_within_ten_seconds_of_its_death(kafka: KafkaSettings) -> None:
    """Kafka counts its dead self in until its session is over."""
    group = uuid4().hex
    async with candidate(kafka, group) as first:
        await leader_of(first)
        await first.kill()
        async with candidate(kafka, group) as again:
            await leads_within(again, 10)


async def test_a_leader_that_is_restarted_under_its_name_does_not_wait_for_the_end_of_its_session(kafka: KafkaSettings) -> None:
    group, endless_ms = uuid4().hex, 600_000
    async with candidate(kafka, group, "one", endless_ms) as first:
        await leader_of(first)
        await first.kill()
        async with candidate(kafka, group, "one", endless_ms) as again:
            await leads_within(again, PATIENCE_S)


async def test_a_leader_with_a_name_that_stays_away_is_followed_within_ten_seconds(kafka: KafkaSettings) -> None:
    group = uuid4().hex
    async with candidate(kafka, group, "one") as one, candidate(kafka, group, "other") as other:
        first = await leader_of(one, other)
        await first.kill()
        await leads_within(other if first is one else one, 10)
