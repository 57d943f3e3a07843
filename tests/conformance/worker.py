"""The real model worker process, asked as its host asks it."""

from collections.abc import Iterable
from pathlib import Path

from services.scorer.answers import Answer
from services.scorer.worker_process import WorkerProcess, start_worker
from services.scorer.worker_spec import WorkerSpec
from services.shared.settings import GIB
from tests.conformance.bodies import Case
from tests.conformance.oracle import Seen, seen

LOAD_LIMIT_S = 120.0
MEMORY_LIMIT_BYTES = 4 * GIB


async def ask_worker(python: Path, model: Path, scratch: Path, cases: Iterable[Case]) -> dict[str, Seen]:
    """The worker's answers by case id: each asked alone, and all once more in one batch, which must not make a difference.

    What the batch leaves out has no other answer than the one it gets alone.
    """
    cases = list(cases)
    worker = await start_worker(WorkerSpec(python, model, scratch, {}, LOAD_LIMIT_S, MEMORY_LIMIT_BYTES))
    try:
        alone = {case.id: answer for case in cases for answer in (await _ask(worker, [case])).values()}
        together = await _ask(worker, cases)
        assert {cases[i].id: answer for i, answer in together.items()}.items() <= alone.items()
    finally:
        await worker.stop()
    return alone


async def _ask(worker: WorkerProcess, cases: list[Case]) -> dict[int, Seen]:
    answers: dict[int, Answer] = {}
    await worker.score([(case.content_type, case.body) for case in cases], answers.__setitem__)
    return {i: seen(answer.status, answer.content_type, answer.body) for i, answer in answers.items()}
