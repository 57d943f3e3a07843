"""A record of an endpoint's public topic as a scoring request. Pure."""

import json
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from services.ingress.submissions.record_ids import id_of_record, id_of_sender
from services.shared.endpoints import Endpoint
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import PayloadTooLarge, RequestRejected
from services.shared.topics import HOUR_MS, results_topic

OWN_ID, DEADLINE, CONTENT_TYPE, TRACEPARENT = "ce_id", "penstock-deadline-ms", "content-type", "traceparent"
USUAL_PATIENCE_MS = 24 * HOUR_MS
MAX_HEADER_BYTES = 1_024  # of each that is carried on
MAX_KEY_BYTES = 64 * 1024
JSON = "application/json"
BAD_REQUEST, TOO_LARGE = 400, 413


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A record of which nothing but its place is known; `timestamp` is when it was met."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    fault: str
    key: None = None
    value: None = None
    headers: tuple[()] = ()


def to_request(
    record: ConsumerRecord | Undecodable, endpoint: Endpoint, requester: str, results_partition: int, longest_ms: int
) -> ScoringRequest:
    """Without a served entity yet. A header that `require_fit` refuses counts as none here, so that the refusal has an id too.

    `longest_ms` is how long a pool's topic keeps a record: nobody can answer it after that.
    """
    own = _usable(record, OWN_ID)
    place = (record.topic, record.partition, record.offset, record.timestamp)
    return ScoringRequest(
        request_id=id_of_sender(endpoint.endpoint_id, own) if own else id_of_record(*place),
        endpoint_id=endpoint.endpoint_id,
        endpoint=endpoint.name,
        entity="",
        served_entity_id="",
        requester=requester,
        accepted_at_ms=record.timestamp,
        deadline_ms=record.timestamp + min(longest_ms, _patience_ms(record)),
        reply_to="",
        table="",
        content_type=_usable(record, CONTENT_TYPE) or JSON,
        traceparent=_usable(record, TRACEPARENT),
        attempt=1,
        body=record.value or b"",
        results_to=results_topic(endpoint.name),
        results_partition=results_partition,
        key=b"" if _is_overlong(record.key) else record.key or b"",
        submission=own or f"{record.partition}/{record.offset}",
    )


def require_fit(record: ConsumerRecord | Undecodable, max_body_bytes: int) -> None:
    """Raises RequestRejected: for a header that means nothing, and for no body; PayloadTooLarge for too long a one."""
    if isinstance(record, Undecodable):
        raise RequestRejected(record.fault)
    for name in (OWN_ID, CONTENT_TYPE):
        _text(record, name)
    if (text := _text(record, DEADLINE)) and not _is_instant(text):
        raise RequestRejected(f"The header {DEADLINE} is no time in milliseconds since 1970.")
    if _is_overlong(record.key):
        raise PayloadTooLarge(f"The key is longer than {MAX_KEY_BYTES} bytes.")
    if not record.value:
        raise RequestRejected("The record has no body.")
    if len(record.value) > max_body_bytes:
        raise PayloadTooLarge(f"The body is {len(record.value)} bytes long; at most {max_body_bytes} are taken.")


def refusal(request: ScoringRequest, error: RequestRejected) -> ScoringReply:
    """Statuses are those of a topic: over HTTP an overlong body is a 400, for the sake of one client (`PayloadTooLarge`)."""
    body = json.dumps({"error_code": error.code, "message": error.message, "details": []}).encode()
    return ScoringReply(request.request_id, TOO_LARGE if isinstance(error, PayloadTooLarge) else BAD_REQUEST, JSON, body)


def _is_overlong(key: bytes | None) -> bool:
    return len(key or b"") > MAX_KEY_BYTES


def _patience_ms(record: ConsumerRecord | Undecodable) -> int:
    text = _usable(record, DEADLINE)
    return int(text) - int(record.timestamp) if _is_instant(text) else USUAL_PATIENCE_MS


def _is_instant(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(2**63))


def _usable(record: ConsumerRecord | Undecodable, name: str) -> str:
    with suppress(RequestRejected):
        return _text(record, name)
    return ""


def _text(record: ConsumerRecord | Undecodable, name: str) -> str:
    """Where a name comes twice, its last value counts."""
    value: bytes = dict(record.headers).get(name) or b""
    if len(value) > MAX_HEADER_BYTES:
        raise RequestRejected(f"The header {name} is longer than {MAX_HEADER_BYTES} bytes.")
    try:
        return value.decode()
    except ValueError as error:
        raise RequestRejected(f"The header {name} is no UTF-8.") from error
