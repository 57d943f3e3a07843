"""A request on its way through a replica: from the record that brought it to the one answer it gets."""

from collections.abc import Callable, Container
from dataclasses import dataclass

from services.scorer.answers import CANCELLED, EXPIRED, Answer, is_expired
from services.shared.envelope import ScoringRequest


@dataclass(eq=False, slots=True)
class Job:
    """`crashes` are those counted for the request, in earlier deliveries too."""

    request: ScoringRequest
    on_answer: Callable[["Job", Answer], None]
    crashes: int = 0
    is_answered: bool = False

    def answer(self, answer: Answer) -> None:
        """The first answer is the request's; later ones are nobody's."""
        if not self.is_answered:
            self.is_answered = True
            self.on_answer(self, answer)


def why_not_score(job: Job, now_ms: int, cancelled: Container[str]) -> Answer | None:
    """The answer of a job that needs no evaluation, or no other one. What is in evaluation is finished for a caller who is gone, too."""
    if is_expired(job.request, now_ms):
        return EXPIRED
    if job.request.request_id in cancelled:
        return CANCELLED
    return None
