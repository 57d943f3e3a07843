"""What the steps inside each hop cost, called many times in one process: `python -m bench steps`.

The steps are the pure parts of the way of one request, on a real request and a real model. What a hop costs beyond their sum
(`python -m bench hops`) is its client libraries, its sockets and its event loop.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.models import request_body, saved_model
from bench.places import BUILT
from services.ingress.admission import QueueLimits, should_refuse
from services.ingress.destinations import Destination
from services.ingress.identity import Callers
from services.ingress.rate_limiter import RateLimiter
from services.ingress.traffic import PartitionTraffic, choose_partition
from services.logger.recent_ids import RecentIds
from services.logger.rows import to_rows
from services.scorer.answers import Answer, final_reply
from services.scorer.batching import choose_batch
from services.scorer.model_worker.frames import JSON_TYPE, encode_frame
from services.scorer.model_worker.scorer import load_scorer
from services.scorer.replies import pack_by_stream
from services.shared.control_events import RateLimit
from services.shared.endpoints import ControlState, Token
from services.shared.envelope import (
    ScoringReply,
    ScoringRequest,
    new_request_id,
    pack_outcomes,
    pack_replies,
    parse_request,
    request_headers,
    to_outcome,
    unpack_outcomes,
    unpack_replies,
)
from services.shared.presence import PoolReport
from services.shared.tallies import LATENCY, Tallies

TOGETHER = 64
TRIES = 5
TRY_S = 0.1
TOKEN = "dapi0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Step:
    """`call` does the step for `members` requests at once."""

    hop: str
    name: str
    call: Callable[[], object]
    members: int = 1


def run_steps(console: Console, model: str) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("hop", "step", "at once", "CPU µs a request"):
        table.add_column(title, justify="left" if title in ("hop", "step") else "right", no_wrap=True)
    for step in steps(saved_model(model, BUILT / "models")):
        table.add_row(step.hop, step.name, str(step.members), f"{cost_us(step):.2f}")
    console.print(table)


def cost_us(step: Step) -> float:
    """CPU µs a request: the best of a few tries, since whatever else runs can only make it slower."""
    step.call()
    calls = 1
    tries: list[float] = []
    while len(tries) < TRIES:
        before_s = time.process_time()
        for _ in range(calls):
            step.call()
        took_s = time.process_time() - before_s
        if took_s < TRY_S:
            calls *= 2  # too short to be measured
            continue
        tries.append(took_s / calls)
    return min(tries) / step.members * 1e6


def steps(folder: Path) -> Iterator[Step]:
    """In the order of a request's way."""
    requests = [_request() for _ in range(TOGETHER)]
    scorer, _ = load_scorer(str(folder))
    members = [(JSON_TYPE, request.body) for request in requests]
    text = next(scorer.score(members[:1]))[0][0].body
    yield from _ingress_steps(requests[0], text)
    yield from _host_steps(requests, Answer(200, JSON_TYPE, text, None, 0.001, parsed=True))
    yield Step("model worker", "score, alone", lambda: list(scorer.score(members[:1])))
    yield Step("model worker", "score, together", lambda: list(scorer.score(members)), TOGETHER)
    yield Step("model worker", "score, MLflow's own way", lambda: scorer._evaluate(requests[0].body, JSON_TYPE))
    yield from _logger_steps(requests, text)


def _ingress_steps(request: ScoringRequest, text: bytes) -> Iterator[Step]:
    callers, state = Callers(), ControlState(tokens={sha256(TOKEN.encode()).hexdigest(): Token("t", "admin")})
    report = PoolReport(pool_id="p", wanted=1, ready=1, reason="", lag=3, evaluation_s=0.001, max_replicas=1, at_ms=0)
    limits, traffic = QueueLimits(10.0, 4096, 120.0), {p: PartitionTraffic(8, p, "p-0") for p in range(4)}
    caller = Token("t", "admin")
    limiter, tallies = RateLimiter(Redis(), sys.maxsize, 1), Tallies(Redis())
    plain = Destination("e", "bench", "linear-1", "s", "p", "", ())
    limited = replace(plain, rate_limits=(RateLimit(calls=sys.maxsize, key="endpoint"), RateLimit(calls=sys.maxsize, key="user")))
    packed = pack_replies([ScoringReply(request.request_id, 200, JSON_TYPE, text)] * TOGETHER)
    yield Step("ingress", "identify", lambda: callers.identify(f"Bearer {TOKEN}", state))
    yield Step("ingress", "should_refuse", lambda: should_refuse(10, 10, report, limits, 0))
    yield Step("ingress", "spend, the workspace's limit", lambda: limiter.spend(plain, caller))
    yield Step("ingress", "spend, two limits more", lambda: limiter.spend(limited, caller))
    yield Step("ingress", "count an answer", lambda: tallies.answered("e", "a", 200))
    yield Step("ingress", "count its time", lambda: tallies.observe("e", "a", LATENCY, 4.2))
    yield Step("ingress", "new_request_id", new_request_id)
    yield Step("ingress", "choose_partition", lambda: choose_partition((0, 1, 2, 3), traffic))
    yield Step("ingress", "request_headers", lambda: request_headers(request))
    yield Step("ingress", "unpack_replies", lambda: unpack_replies(packed), TOGETHER)


def _host_steps(requests: list[ScoringRequest], answer: Answer) -> Iterator[Step]:
    headers, sizes = request_headers(requests[0]), [len(request.body) for request in requests]
    frame_header = {"batch": 1, "members": [(JSON_TYPE, size) for size in sizes]}
    body = b"".join(request.body for request in requests)
    heads = json.dumps({"batch": 1, "answers": [[i, 200, JSON_TYPE, None, len(answer.body), 0.001, TOGETHER] for i in range(TOGETHER)]})
    replies = [final_reply(request, answer, 0) for request in requests]
    outcomes = [to_outcome(request, reply, None, 1) for request, reply in zip(requests, replies, strict=True)]
    addressed = [(request.reply_to, reply) for request, reply in zip(requests, replies, strict=True)]
    yield Step("scorer host", "parse_request", lambda: parse_request(headers, requests[0].body))
    yield Step("scorer host", "choose_batch", lambda: choose_batch(sizes, 0.0005), TOGETHER)
    yield Step("scorer host", "encode_frame", lambda: encode_frame(frame_header, body), TOGETHER)
    yield Step("scorer host", "read the answers' heads", lambda: json.loads(heads), TOGETHER)
    yield Step("scorer host", "final_reply", lambda: final_reply(requests[0], answer, 0))
    yield Step("scorer host", "to_outcome", lambda: to_outcome(requests[0], replies[0], None, 1))
    yield Step("scorer host", "pack_outcomes", lambda: list(pack_outcomes(outcomes)), TOGETHER)
    yield Step("scorer host", "pack_by_stream", lambda: pack_by_stream(addressed), TOGETHER)


def _logger_steps(requests: list[ScoringRequest], text: bytes) -> Iterator[Step]:
    outcomes = [to_outcome(r, ScoringReply(r.request_id, 200, JSON_TYPE, text), None, 1) for r in requests]
    (packed,) = pack_outcomes(outcomes)
    ids = [request.request_id for request in requests]

    def dedupe() -> None:
        recent = RecentIds(0, 10_000)
        for request_id in ids:
            recent.look(request_id)
        recent.remember(ids)

    yield Step("logger", "unpack_outcomes", lambda: unpack_outcomes(packed), TOGETHER)
    yield Step("logger", "look for repeats", dedupe, TOGETHER)
    yield Step("logger", "to_rows", lambda: to_rows(outcomes), TOGETHER)


def _request() -> ScoringRequest:
    now_ms = round(time.time() * 1000)
    return ScoringRequest(
        request_id=new_request_id(),
        endpoint_id="0123456789abcdef0123456789abcdef",
        endpoint="bench",
        entity="linear-1",
        served_entity_id="0123456789abcdef0123456789abcdef-linear-1-1",
        requester="admin",
        accepted_at_ms=now_ms,
        deadline_ms=now_ms + 120_000,
        reply_to="penstock:replies:0123456789abcdef0123456789abcdef",
        table="main.bench.bench_payload",
        content_type=JSON_TYPE,
        traceparent="",
        attempt=1,
        body=request_body(),
    )
