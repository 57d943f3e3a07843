"""A loaded model as the lanes see it: members in, answers out, by the shortcut where it is proven and MLflow's own way elsewhere."""

import os
import time
from typing import NamedTuple, Optional

from .frames import JSON_TYPE, Traits, client_request_id_of
from .mlflow_scoring import error_body, mlflows_own


class Answer(NamedTuple):
    """`member` is the request's place in its batch; `took_s` is of the evaluation, which scored `together` members.

    `rows` is how many those had together; 0: it went MLflow's own way, where there is no company.
    """

    member: int
    status: int
    content_type: str
    client_request_id: Optional[str]
    body: bytes
    took_s: float
    together: int
    rows: int


def load_scorer(folder: str):
    """Load, warm and prove the model. Returns the scorer, and what the host has to know of it."""
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"  # as mlflow's own scoring server says it
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(folder)
    evaluate, shortens = mlflows_own(model)
    _warm(evaluate, folder)
    if not shortens:
        return Scorer(evaluate, None), Traits(False, False, "its environment has an MLflow older than 2.21")
    from .proof import prove

    shortcut, why = prove(model, model.metadata.get_input_schema(), evaluate, folder)
    if shortcut is None or not shortcut.row_wise:
        return Scorer(evaluate, shortcut), Traits(False, False, why)
    return Scorer(evaluate, shortcut), Traits(True, shortcut.waits, why, shortcut.first_s, shortcut.more_s)


def _warm(evaluate, folder: str) -> None:
    """Score the model's own example once. A failing example only warns: callers may well send something better."""
    path = os.path.join(folder, "serving_input_example.json")
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        status, _, text = evaluate(file.read(), JSON_TYPE)
    if status != 200:
        print(f"warm-up with the model's input example failed with status {status}: {text[:2000]}", flush=True)


class Scorer:
    def __init__(self, evaluate, shortcut) -> None:
        self._evaluate = evaluate
        self._shortcut = shortcut

    def score(self, members):
        """Yield (answers, whether these are the last). One member, which is (content type, body), is answered for certain.

        Of several only those that go the short way are: a lane is no place to score the others one after the other.
        """
        answered = 0
        for answers in self._short_way(members):
            answered += len(answers)
            yield answers, answered == len(members)
        if answered < len(members):
            yield ([self._alone(*members[0])] if len(members) == 1 else []), True

    def _short_way(self, members):
        started = time.perf_counter()
        for indices, texts, client_ids, rows in self._shortcut.score(members) if self._shortcut else ():
            took_s = time.perf_counter() - started
            yield [
                Answer(i, 200, JSON_TYPE, client_id, text.encode(), took_s, len(indices), rows)
                for i, text, client_id in zip(indices, texts, client_ids)
            ]
            started = time.perf_counter()

    def _alone(self, content_type: str, body: bytes) -> Answer:
        started = time.perf_counter()
        try:
            status, answer_type, text = self._evaluate(body, content_type)
            answer = text.encode()
        except Exception as error:  # noqa: BLE001  a lane must outlive what it evaluates
            status, answer_type = 500, JSON_TYPE
            answer = error_body("INTERNAL_ERROR", f"The model's answer cannot be sent: {error}").encode(errors="replace")
        client_id = client_request_id_of(body) if content_type.startswith(JSON_TYPE) else None
        return Answer(0, status, answer_type, client_id, answer, time.perf_counter() - started, 1, 0)
