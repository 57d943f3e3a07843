"""What a host without a model does with the requests left in a retired pool (R10)."""

import asyncio
from collections.abc import Sequence

from services.scorer.answers import EXPIRED, REFUSED, is_expired
from services.scorer.jobs import Job
from services.shared.clock import now_ms

AT_ONCE = 64


class Refusal:
    """Answers every job at once, so there is always room."""

    in_flight = 0
    capacity = AT_ONCE

    def __init__(self) -> None:
        self.freed = asyncio.Event()

    def submit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.answer(EXPIRED if is_expired(job.request, now_ms()) else REFUSED)
