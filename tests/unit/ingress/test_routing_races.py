"""A request whose endpoint changes under it, between the look at the control log and the record."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.ingress import connections
from services.ingress.http_errors import HUNG_UP
from services.ingress.invocations import Invocations, invoked_by
from services.ingress.replies import Replies, Waiting
from services.ingress.settings import IngressSettings
from services.shared.control_events import (
    ConfigRequested,
    ConfigSpec,
    ControlEvent,
    EndpointCreated,
    EntityReady,
    EntitySpec,
    Route,
    TokenCreated,
)
from services.shared.endpoints import ControlState, apply_event
from services.shared.envelope import ScoringReply


def config(version: str) -> ConfigSpec:
    return ConfigSpec(
        entities=(EntitySpec(name="a", model_name="m", model_version=version),), routes=(Route(entity="a", traffic_percentage=100),)
    )


SERVING: list[ControlEvent] = [
    TokenCreated(at_ms=1, token_id="t", sha256=sha256(b"secret").hexdigest(), principal="ada"),
    EndpointCreated(at_ms=1, endpoint_id="e", name="churn", creator="ada", config=config("1")),
    EntityReady(at_ms=1, endpoint_id="e", version=1, entity="a"),
]
UPDATED: list[ControlEvent] = [
    ConfigRequested(at_ms=2, endpoint_id="e", based_on=1, config=config("2")),
    EntityReady(at_ms=2, endpoint_id="e", version=2, entity="a"),
]


class Stream:
    """The control log, the request log and the pools' reports. `on_look` happens while partitions are looked up."""

    def __init__(self, replies: Replies) -> None:
        self.state, self.replies, self.produced = ControlState(), replies, list[str]()
        self.cancelled, self.answers = list[str](), True
        self.on_look: Callable[[], None] = lambda: None
        self.unread = list[ControlEvent]()  # in the log, and not folded here yet

    def fold(self, events: list[ControlEvent]) -> None:
        for event in events:
            self.state = apply_event(self.state, self.state.next_offset, event)

    def is_confirmed(self) -> bool:
        return True

    async def refresh(self) -> None:
        unread, self.unread = self.unread, []
        self.fold(unread)

    def snapshot(self) -> ControlState:
        return self.state

    def report(self, _: str) -> None: ...

    def in_flight(self, _: str) -> int:
        return 0

    def answered(self, endpoint_id: str, entity: str, status: int) -> None: ...

    def observe(self, endpoint_id: str, entity: str, what: str, ms: float) -> None: ...

    def spend(self, to: object, caller: object) -> None: ...

    def is_asleep(self, _: str) -> bool:
        return False

    async def partitions(self, _: str) -> list[int]:
        on_look, self.on_look = self.on_look, lambda: None
        on_look()
        return [0]

    def tell(self, pool_id: str, request_id: str, deadline_ms: int) -> None:
        self.cancelled.append(pool_id)

    async def send(self, waiting: Waiting) -> None:
        self.produced.append(waiting.pool_id)
        if not self.answers:
            return
        assert self.replies.routed_from(self.state.next_offset) == waiting.routed_at
        self.replies.settle(ScoringReply(waiting.request.request_id, 200, "application/json", b"{}"), "a")


async def test_a_pool_retired_while_its_partitions_were_looked_up_gets_no_request() -> None:
    """Meanwhile the request is among nobody's waiting ones: the pool may be empty, unused and gone when the look is over."""
    replies = Replies()
    stream = Stream(replies)
    stream.fold(SERVING)
    stream.on_look = lambda: stream.fold(UPDATED)
    assert await answer_to(request(), stream) == 200
    assert stream.produced == ["e-a-2"]


@pytest.mark.parametrize("folded", [pytest.param(1, id="unknown here"), pytest.param(2, id="not ready here")])
async def test_an_endpoint_that_another_ingress_says_is_ready_is_scored(folded: int) -> None:
    stream = Stream(Replies())
    stream.fold(SERVING[:folded])
    stream.unread = SERVING[folded:]
    assert await answer_to(request(), stream) == 200


@pytest.mark.parametrize(("folded", "status"), [(1, 404), (2, 503)])
async def test_an_endpoint_that_is_not_there_at_the_logs_end_is_refused(folded: int, status: int) -> None:
    stream = Stream(Replies())
    stream.fold(SERVING[:folded])
    assert await answer_to(request(), stream) == status


async def hung_up(stream: Stream, hang_up: Callable[[Request], None]) -> None:
    """`hang_up` comes while the request waits, or while its partitions are looked up."""
    stream.fold(SERVING)
    seen = request()
    stream.on_look = lambda: hang_up(seen) if stream.answers else None
    invocation = asyncio.create_task(answer_to(seen, stream), name="invocation")
    for _ in range(3):
        await asyncio.sleep(0)
    if not invocation.done():
        assert (len(stream.replies), stream.replies.in_flight("e-a-1")) == (1, 1)
        hang_up(seen)
    assert await invocation == HUNG_UP
    assert (len(stream.replies), stream.replies.in_flight("e-a-1"), stream.replies.routed_from(99)) == (0, 0, 99)
    assert set(seen.scope) <= {*request().scope, "penstock.gone"}, "a kept connection holds nothing of the request"


async def test_a_caller_who_hangs_up_while_waiting_frees_its_place_and_the_hosts_are_told() -> None:
    stream = Stream(Replies())
    stream.answers = False
    await hung_up(stream, lambda seen: connections.tell_gone(seen.scope))
    assert (stream.produced, stream.cancelled) == (["e-a-1"], ["e-a-1"])


async def test_a_caller_who_hung_up_before_the_record_leaves_none() -> None:
    stream = Stream(Replies())
    await hung_up(stream, lambda seen: connections.tell_gone(seen.scope))
    assert (stream.produced, stream.cancelled) == ([], [])


async def answer_to(seen: Request, stream: Stream) -> int:
    parts, sent = cast(Any, stream), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    invoked = invoked_by(seen.scope)
    assert invoked
    invocations = Invocations(IngressSettings(), "i", parts, parts, stream.replies, parts, parts, parts, parts, parts)
    await invocations.answer(invoked, seen.scope, seen.receive, send)
    status: int = sent[0]["status"]
    return status


def request() -> Request:
    headers = [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/serving-endpoints/churn/invocations", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    return Request(scope, receive)
