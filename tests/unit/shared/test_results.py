"""A result says of its request what readers need, and garbage comes out as EnvelopeInvalid."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import EnvelopeInvalid
from services.shared.results import MAX_RESULT_BYTES, ScoringResult, parse_result, result_record
from services.shared.safe_producer import Record
from tests.unit.shared.test_envelope import REPLIES, REPLY, REQUEST, REQUESTS

ASKED = replace(REQUEST, results_to="penstock.endpoint.churn.results", results_partition=3, key=b"k", submission="order-7")


@given(REQUESTS, REPLIES, st.integers(0, 10**6), st.integers(0, 4_000_000_000_000))
def test_a_result_comes_out_as_it_went_in(request: ScoringRequest, reply: ScoringReply, duration_ms: int, at_ms: int) -> None:
    record = result_record(request, reply, duration_ms, at_ms)
    assert (record.topic, record.partition) == (request.results_to, request.results_partition)
    assert parse_result(record.headers, record.value, record.key) == ScoringResult(
        request_id=request.request_id,
        submission=request.submission,
        key=request.key,
        status=reply.status,
        content_type=reply.content_type,
        body=reply.body,
        served_entity=request.entity,
        accepted_at_ms=request.accepted_at_ms,
        execution_ms=duration_ms,
        traceparent=request.traceparent,
    )


def test_a_result_is_a_cloud_event_on_the_topic_its_sender_waits_on() -> None:
    assert result_record(ASKED, REPLY, 12, 1_770_724_805_007) == Record(
        topic="penstock.endpoint.churn.results",
        partition=3,
        value=REPLY.body,
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", REQUEST.request_id.encode()),
            ("ce_type", b"penstock.scoring-result.v1"),
            ("ce_source", b"/serving-endpoints/churn"),
            ("ce_time", b"2026-02-10T12:00:05.007Z"),
            ("content-type", b"application/json"),
            ("penstock-status", b"200"),
            ("penstock-served-entity", b"a"),
            ("penstock-accepted-ms", b"1770724800123"),
            ("penstock-execution-ms", b"12"),
            ("penstock-submission", b"order-7"),
            ("traceparent", REQUEST.traceparent.encode()),
        ],
        key=b"k",
    )


def test_an_answer_that_kafka_would_refuse_for_ever_is_a_fault() -> None:
    record = result_record(ASKED, replace(REPLY, body=b"x" * (MAX_RESULT_BYTES + 1)), 12, 1)
    result = parse_result(record.headers, record.value, record.key)
    assert (result.status, result.body) == (
        500,
        b'{"error_code": "INTERNAL_ERROR", "message": "The answer is too large for a topic.", "details": []}',
    )


@pytest.mark.parametrize("name", ["ce_type", "ce_id", "penstock-status", "content-type"])
def test_a_record_without_what_a_result_has_is_none(name: str) -> None:
    record = result_record(ASKED, REPLY, 12, 1)
    with pytest.raises(EnvelopeInvalid, match=name):
        parse_result([(n, v) for n, v in record.headers if n != name], record.value)
