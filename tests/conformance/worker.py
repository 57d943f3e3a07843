"""The real model worker process, asked as its host asks it."""

from collections.abc import Iterable
from pathlib import Path

from services.scorer.worker_process import WorkerSpec, start_worker
from tests.conformance.bodies import Case
from tests.conformance.oracle import Seen, seen

LOAD_LIMIT_S = 120.0


async def ask_worker(python: Path, model: Path, scratch: Path, cases: Iterable[Case]) -> dict[str, Seen]:
    """The worker's answers by case id."""
    worker = await start_worker(WorkerSpec(python, model, scratch, {}, LOAD_LIMIT_S))
    try:
        answers = {case.id: await worker.score(case.content_type, case.body) for case in cases}
    finally:
        await worker.stop()
    return {name: seen(answer.status, answer.content_type, answer.body) for name, answer in answers.items()}
