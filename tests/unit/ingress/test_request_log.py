"""What becomes of a request when its record is not acknowledged."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
)

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

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[object]":
        if self.dead:
            raise KafkaError("Unexpected error during batch delivery")
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
