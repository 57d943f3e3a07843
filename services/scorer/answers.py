"""Answers the host itself gives, and what a finished request's final answer is. Pure."""

import json
from dataclasses import dataclass

from services.shared.envelope import ScoringReply, ScoringRequest

JSON = "application/json"
MAX_CRASHES = 3  # I8


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request before its deadline was looked at again. `duration_s` is the evaluation's own; 0: there was none."""

    status: int
    content_type: str
    body: bytes
    client_request_id: str | None = None
    duration_s: float = 0.0
    together: int = 1  # requests that this evaluation scored at once
    rows: int = 0  # of those requests; 0: it went MLflow's own way, where there is no company
    parsed: bool = False  # a model worker has looked for the client's id already


def error_answer(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"error_code": code, "message": message, "details": []}).encode()
    return Answer(status, JSON, body)


EXPIRED = error_answer(504, "DEADLINE_EXCEEDED", "The request was not scored before its deadline.")
TIMED_OUT = error_answer(
    504, "DEADLINE_EXCEEDED", "Timed out while evaluating the model. Verify that the model evaluates within the timeout."
)
CRASHED = error_answer(500, "INTERNAL_ERROR", "The model process crashed while scoring this request.")
OVER_MEMORY = error_answer(500, "INTERNAL_ERROR", "The model process took more memory than its limit while scoring this request.")
FAILED_HERE = error_answer(500, "INTERNAL_ERROR", "The serving host failed while scoring this request.")
CANCELLED = error_answer(499, "CANCELLED", "The caller hung up before this request was scored.")
REFUSED = error_answer(503, "TEMPORARILY_UNAVAILABLE", "The served entity was removed before this request was scored.")


def is_expired(request: ScoringRequest, now_ms: int) -> bool:
    return now_ms >= request.deadline_ms


def final_reply(request: ScoringRequest, answer: Answer, now_ms: int) -> ScoringReply:
    """Reply and row alike: what is sent after the deadline is a 504, whatever the model said (R2, I4)."""
    if answer.status != EXPIRED.status and is_expired(request, now_ms):
        answer = EXPIRED
    return ScoringReply(request.request_id, answer.status, answer.content_type, answer.body)
