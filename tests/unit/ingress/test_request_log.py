"""What becomes of a request when its record is not acknowledged."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
)
from starlette.requests import ClientDisconnect

from services.ingress.replies import Replies
from services.ingress.request_log import RequestLog
from services.shared import kafka_clients
from services.shared.envelope import ScoringRequest
from services.shared.errors import TryAgainLater
from services.shared.settings import KafkaSettings


class Producer:
    """Takes records until its sender dies; `sent` are the acknowledgements to come."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[object]] = []
        self.dead = False
        self.on_send: Callable[[], None] = lambda: None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, _: str) -> set[int]:
        return {0}

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[object]":
        if self.dead:
            raise KafkaError("Unexpected error during batch delivery")
        self.on_send()
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    made: list[Producer] = []

    def new_producer(_: KafkaSettings) -> Producer:
        made.append(Producer())
        return made[-1]

    monkeypatch.setattr(kafka_clients, "new_producer", new_producer)
    return made


REQUEST = ScoringRequest("r", "e1", "churn", "a", "0" * 32, "ada", 1, 2, "s", "", "text/csv", "", 1, b"")


async def settled() -> None:
    for _ in range(3):  # a callback, then the replacing of the producer
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        pytest.param(MessageSizeTooLargeError(), True, id="the broker looked at it and said no"),
        pytest.param(OutOfOrderSequenceNumber(), True, id="it came behind one that was lost"),
        pytest.param(LeaderNotAvailableError(), False, id="given up without a leader, after a try whose answer may be what was lost"),
        pytest.param(NotLeaderForPartitionError(), False, id="the same, with the partition gone from the metadata"),
        pytest.param(KafkaError(), False, id="the sender died with the record somewhere on the way"),
    ],
)
async def test_only_what_is_surely_not_in_the_log_is_told_to_try_again(producers: list[Producer], error: KafkaError, refused: bool) -> None:
    log = RequestLog(KafkaSettings())
    await log.start()
    with Replies().expected(REQUEST, "p", 0, 5) as waiting:
        await log.send(waiting)
        producers[0].sent[0].set_exception(error)
        await settled()
        assert waiting.reply.done() is refused
        if refused:
            assert isinstance(waiting.reply.exception(), TryAgainLater)
    assert len(producers) == 2, "a producer that lost a record is replaced"


async def test_a_producer_whose_sender_died_while_nothing_was_on_the_way_is_replaced(producers: list[Producer]) -> None:
    log = RequestLog(KafkaSettings())
    await log.start()
    producers[0].dead = True
    with Replies().expected(REQUEST, "p", 0, 5) as waiting:
        with pytest.raises(TryAgainLater):
            await log.send(waiting)
        await settled()
        await log.send(waiting)
    assert len(producers[1].sent) == 1


@pytest.mark.parametrize(
    "error", [pytest.param(None, id="it was appended"), pytest.param(KafkaError(), id="whether it was appended is not known")]
)
async def test_the_record_of_a_caller_who_hung_up_frees_its_place_at_once_and_holds_its_pool_until_acknowledged(
    producers: list[Producer], error: KafkaError | None
) -> None:
    """The record is in the producer's hands: were the snapshot let go, the pool's topic could go before the record comes (R10)."""
    log, replies = RequestLog(KafkaSettings()), Replies()
    await log.start()
    with replies.expected(REQUEST, "p", 0, 5) as waiting:
        await log.send(waiting)
        waiting.hang_up()
        replies.abandon(waiting)
        assert (len(replies), replies.in_flight("p"), replies.unanswered()) == (0, 0, [])
        assert replies.routed_from(9) == 5
        produced = asyncio.create_task(waiting.produced(), name="produced")
        await settled()
        assert not produced.done()
        _acknowledge(producers[0].sent[0], error)
        await settled()
        assert produced.done()
    assert replies.routed_from(9) == 9
    assert not any(producer.sent for producer in producers[1:]), "nobody waits for another copy"
    with pytest.raises(ClientDisconnect):
        await waiting.reply


async def test_a_record_is_accepted_once_a_copy_of_it_is_acknowledged_and_not_when_that_is_unknown(producers: list[Producer]) -> None:
    """A 202 went out when the first copy was lost, with nothing in the log and nobody left to produce it again."""
    log, replies = RequestLog(KafkaSettings()), Replies()
    await log.start()
    with replies.expected(REQUEST, "p", 0, 5) as waiting:
        await log.send(waiting)
        accepted = asyncio.create_task(waiting.accepted(), name="accepted")
        await settled()
        _acknowledge(producers[0].sent[0], KafkaError())
        await settled()
        await settled()
        assert not accepted.done()
        _acknowledge(producers[1].sent[0], None)
        await settled()
        assert accepted.done()
        await waiting.accepted()


async def test_a_record_that_was_refused_is_waited_for_no_longer(producers: list[Producer]) -> None:
    log = RequestLog(KafkaSettings())
    await log.start()
    with Replies().expected(REQUEST, "p", 0, 5) as waiting:
        await log.send(waiting)
        _acknowledge(producers[0].sent[0], MessageSizeTooLargeError())
        await waiting.accepted()
        assert isinstance(waiting.reply.exception(), TryAgainLater)
    await settled()


def _acknowledge(sent: "asyncio.Future[object]", error: KafkaError | None) -> None:
    if error:
        sent.set_exception(error)
    else:
        sent.set_result(None)


async def test_who_hangs_up_while_others_are_produced_again_is_left_out(producers: list[Producer]) -> None:
    log, replies = RequestLog(KafkaSettings()), Replies()
    await log.start()
    with replies.expected(REQUEST, "p", 0, 5) as first, replies.expected(replace(REQUEST, request_id="s"), "p", 0, 5) as second:
        await log.send(first)
        await log.send(second)
        producers[0].on_send = second.hang_up
        await log.send_again(replies)
        assert (first.open_produces, second.open_produces) == (2, 1)
        assert isinstance(second.reply.exception(), ClientDisconnect)


async def test_a_record_that_could_not_be_handed_over_holds_nothing(producers: list[Producer]) -> None:
    log = RequestLog(KafkaSettings())
    await log.start()
    producers[0].dead = True
    with Replies().expected(REQUEST, "p", 0, 5) as waiting:
        with pytest.raises(TryAgainLater):
            await log.send(waiting)
        await waiting.produced()
    await log.stop()
