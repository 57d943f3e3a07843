"""The real model worker process, asked as its host asks it."""

from collections.abc import Iterable
from pathlib import Path

from services.scorer.answers import Answer
from services.scorer.worker_process import WorkerProcess, WorkerSpec, start_worker
from tests.conformance.bodies import Case
from tests.conformance.oracle import Seen, seen

LOAD_LIMIT_S = 120.0


async def ask_worker(python: Path, model: Path, scratch: Path, cases: Iterable[Case]) -> dict[str, Seen]:
    """The worker's answers by case id: each asked alone, and all once more in one batch, which must not make a difference."""
    cases = list(cases)
    worker = await start_worker(WorkerSpec(python, model, scratch, {}, LOAD_LIMIT_S))
    try:
        alone = [answer for case in cases for answer in await _ask(worker, [case])]
        assert await _ask(worker, cases) == alone
    finally:
        await worker.stop()
    return {case.id: answer for case, answer in zip(cases, alone, strict=True)}


async def _ask(worker: WorkerProcess, cases: list[Case]) -> list[Seen]:
    answers: dict[int, Answer] = {}
    await worker.score([(case.content_type, case.body) for case in cases], answers.__setitem__)
    return [seen(answers[i].status, answers[i].content_type, answers[i].body) for i in range(len(cases))]
