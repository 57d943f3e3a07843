"""MLflow's own scoring server, in this process: what every answer is held against."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow.pyfunc
from mlflow.pyfunc import scoring_server

from tests.conformance.bodies import Case

_PACKAGES = re.compile(r'[^" ]*/site-packages/')
_WORDS = re.compile(r"\{'\w+'(?:, '\w+')*\}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer as a caller sees it; `content_type` without parameters."""

    status: int
    content_type: str
    text: str


NO_ANSWER = Seen(0, "", "")


def seen(status: int, content_type: str, body: bytes) -> Seen:
    """What depends on the process and not on the answer is levelled: where its packages lie (in stack traces), and the order of
    a set of words in a message, which is the process's own hash seed."""
    text = _WORDS.sub(
        lambda found: "{" + ", ".join(sorted(found[0][1:-1].split(", "))) + "}", _PACKAGES.sub("site-packages/", body.decode())
    )
    return Seen(status, content_type.partition(";")[0], text)


def headers_of(case: Case) -> dict[str, str]:
    return {"content-type": case.content_type} if case.content_type else {}


async def ask_mlflow(model: Path | str, cases: Iterable[Case]) -> dict[str, Seen]:
    """MLflow's answers by case id. What pandas warns of on the way belongs to the body, not to the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = scoring_server.init(mlflow.pyfunc.load_model(str(model)))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as client:
            return {case.id: await _ask(client, case) for case in cases}


async def _ask(client: httpx.AsyncClient, case: Case) -> Seen:
    if case.deviation == "model-exits":
        return NO_ANSWER  # it would end this process, too
    answer = await client.request(case.method, "/invocations", content=case.body, headers=headers_of(case))
    return seen(answer.status_code, answer.headers.get("content-type", ""), answer.content)
