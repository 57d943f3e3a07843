"""The result of a request whose sender waits on a Kafka topic: one record, a CloudEvent in binary mode, the answer's bytes as its value."""

from dataclasses import dataclass, replace

from services.shared.envelope import Headers, ScoringReply, ScoringRequest, cloud_event_time, header_number, header_text, optional_header
from services.shared.errors import EnvelopeInvalid
from services.shared.safe_producer import Record
from services.shared.settings import MIB
from services.shared.topics import MAX_RECORD_BYTES

RESULT_TYPE = "penstock.scoring-result.v1"
MAX_RESULT_BYTES = MAX_RECORD_BYTES - MIB
_TOO_LARGE = b'{"error_code": "INTERNAL_ERROR", "message": "The answer is too large for a topic.", "details": []}'


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """What readers see. The same request may come twice, with the same id: the first one counts."""

    request_id: str
    submission: str
    key: bytes
    status: int
    content_type: str
    body: bytes
    served_entity: str  # "" where the request came to none
    accepted_at_ms: int
    execution_ms: int  # its share of the evaluation it was in; 0 where nothing was evaluated
    traceparent: str


def result_record(request: ScoringRequest, reply: ScoringReply, duration_ms: int, at_ms: int) -> Record:
    """Where `request.results_to` says; `duration_ms` is its share of the evaluation it was in, `at_ms` the time of the answer.

    An answer that Kafka would not take, and that would be tried for ever, is replaced by a fault that says so.
    """
    if len(reply.body) + len(request.key) > MAX_RESULT_BYTES:
        reply = replace(reply, status=500, content_type="application/json", body=_TOO_LARGE)
    values = {
        "ce_specversion": b"1.0",
        "ce_id": request.request_id.encode(),
        "ce_type": RESULT_TYPE.encode(),
        "ce_source": f"/serving-endpoints/{request.endpoint}".encode(),
        "ce_time": cloud_event_time(at_ms),
        "content-type": reply.content_type.encode(),
        "penstock-status": b"%d" % reply.status,
        "penstock-served-entity": request.entity.encode(),
        "penstock-accepted-ms": b"%d" % request.accepted_at_ms,
        "penstock-execution-ms": b"%d" % duration_ms,
        "penstock-submission": request.submission.encode(),
        "traceparent": request.traceparent.encode(),
    }
    headers = [(name, value) for name, value in values.items() if value]
    return Record(request.results_to, request.results_partition, reply.body, headers, request.key or None)


def parse_result(headers: Headers, body: bytes | None, key: bytes | None = None) -> ScoringResult:
    """Raises EnvelopeInvalid, naming the header at fault."""
    values = dict(headers)
    if header_text(values, "ce_type") != RESULT_TYPE:
        raise EnvelopeInvalid(f"header ce_type is not {RESULT_TYPE}")
    return ScoringResult(
        request_id=header_text(values, "ce_id"),
        submission=optional_header(values, "penstock-submission"),
        key=key or b"",
        status=header_number(values, "penstock-status"),
        content_type=header_text(values, "content-type"),
        body=body or b"",
        served_entity=optional_header(values, "penstock-served-entity"),
        accepted_at_ms=header_number(values, "penstock-accepted-ms"),
        execution_ms=header_number(values, "penstock-execution-ms"),
        traceparent=optional_header(values, "traceparent"),
    )
