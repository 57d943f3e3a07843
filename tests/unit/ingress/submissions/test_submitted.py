"""Which records of a public topic are scored, as what, and what the others are told."""

import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from services.ingress.submissions.record_ids import id_of_record, id_of_sender
from services.ingress.submissions.submitted import Undecodable, refusal, require_fit, to_request
from services.shared.envelope import ScoringRequest
from services.shared.errors import PayloadTooLarge, RequestRejected
from tests.unit.shared.control_log import config, created, fold, ready

TOPIC = "penstock.endpoint.churn.requests"
AT_MS = 1_770_724_800_123
DAY_MS = 86_400_000
ENDPOINT = fold(created(config("1")), ready("a")).endpoints["churn"]
OWN = ("ce_id", b"order-7")


def record(*headers: tuple[str, bytes], value: bytes | None = b"{}", key: bytes | None = None) -> Any:
    return ConsumerRecord(TOPIC, 3, 41, AT_MS, 1, key, value, None, 0, 0, headers)


def request_of(*headers: tuple[str, bytes], **parts: Any) -> ScoringRequest:
    return to_request(record(*headers, **parts), ENDPOINT, "ada", 2, 2 * DAY_MS)


def test_a_bare_record_is_json_known_by_its_place_and_has_a_day() -> None:
    assert request_of(key=b"k") == ScoringRequest(
        request_id=id_of_record(TOPIC, 3, 41, AT_MS),
        endpoint_id="e1",
        endpoint="churn",
        entity="",
        served_entity_id="",
        requester="ada",
        accepted_at_ms=AT_MS,
        deadline_ms=AT_MS + DAY_MS,
        reply_to="",
        table="",
        content_type="application/json",
        traceparent="",
        attempt=1,
        body=b"{}",
        results_to="penstock.endpoint.churn.results",
        results_partition=2,
        key=b"k",
        submission="3/41",
    )


def test_its_headers_say_more() -> None:
    sent = request_of(OWN, ("content-type", b"text/csv"), ("penstock-deadline-ms", b"%d" % (AT_MS + 5)), ("traceparent", b"00-a"))
    assert (sent.request_id, sent.submission) == (id_of_sender("e1", "order-7"), "order-7")
    assert (sent.content_type, sent.deadline_ms, sent.traceparent) == ("text/csv", AT_MS + 5, "00-a")


@pytest.mark.parametrize(
    ("deadline", "expected_ms"),
    [
        pytest.param(b"", AT_MS + DAY_MS, id="none is a day"),
        pytest.param(b"%d" % (AT_MS + 9 * DAY_MS), AT_MS + 2 * DAY_MS, id="never later than the pool's topic keeps it"),
        pytest.param(b"1", 1, id="one that is over stays so: the host answers that it was not scored"),
        pytest.param(b"soon", AT_MS + DAY_MS, id="one in words counts as none, and is refused"),
    ],
)
def test_deadlines(deadline: bytes, expected_ms: int) -> None:
    assert request_of(("penstock-deadline-ms", deadline)).deadline_ms == expected_ms


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        pytest.param(record(value=None), 400, "The record has no body.", id="a tombstone"),
        pytest.param(record(value=b""), 400, "The record has no body.", id="nothing"),
        pytest.param(record(value=b"x" * 11), 413, "The body is 11 bytes long; at most 10 are taken.", id="a long body"),
        pytest.param(record(key=b"k" * 70_000), 413, "The key is longer than 65536 bytes.", id="a long key"),
        pytest.param(record(("ce_id", b"\xff")), 400, "The header ce_id is no UTF-8.", id="an id in another encoding"),
        pytest.param(record(("ce_id", b"i" * 1_025)), 400, "The header ce_id is longer than 1024 bytes.", id="a long id"),
        pytest.param(record(("content-type", b"\xff")), 400, "The header content-type is no UTF-8.", id="a content type in another"),
        *(
            pytest.param(
                record(("penstock-deadline-ms", deadline)),
                400,
                "The header penstock-deadline-ms is no time in milliseconds since 1970.",
                id=f"a deadline of {deadline[:9]!r}",
            )
            for deadline in (b"soon", b"-5", b"1e9", "٣".encode(), b"9" * 99)
        ),
    ],
)
def test_what_is_refused_is_told_why_under_an_id_of_its_own(sent: Any, status: int, message: str) -> None:
    with pytest.raises(RequestRejected) as refused:
        require_fit(sent, 10)
    told = refusal(to_request(sent, ENDPOINT, "ada", 0, DAY_MS), refused.value)
    assert (told.status, told.request_id) == (status, id_of_record(TOPIC, 3, 41, AT_MS))
    assert json.loads(told.body) == {"error_code": "BAD_REQUEST", "message": message, "details": []}
    assert (status == 413) is isinstance(refused.value, PayloadTooLarge)


def test_a_refusal_keeps_the_senders_id() -> None:
    assert request_of(OWN, value=None).request_id == id_of_sender("e1", "order-7")


def test_the_last_of_two_headers_of_one_name_counts() -> None:
    require_fit(record(("ce_id", b"\xff"), OWN), 10)
    assert request_of(("ce_id", b"other"), OWN).submission == "order-7"


def test_what_cannot_be_decoded_is_refused_under_its_place() -> None:
    unread = Undecodable(TOPIC, 3, 41, AT_MS, "no UTF-8")
    with pytest.raises(RequestRejected, match="no UTF-8"):
        require_fit(unread, 100)
    request = to_request(unread, ENDPOINT, "ada", 2, DAY_MS)
    assert (request.submission, request.key, request.results_partition) == ("3/41", b"", 2)
