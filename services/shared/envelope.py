"""Requests, replies and outcomes on the wire: the only code that knows header names and packings.

A request is one Kafka record: the caller's bytes untouched, everything else in headers (CloudEvents binary mode plus
Penstock's own). Replies and outcomes are packed, many to a Redis entry or a Kafka record, as MessagePack arrays.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import Any

import msgpack
from uuid_utils import uuid7

from services.shared.errors import EnvelopeInvalid

REQUEST_TYPE = "penstock.scoring-request.v1"
MAX_PACK_BYTES = 1_000_000  # R4: packs stay under 1 MB, what is larger travels alone
ARRAY_HEADER_BYTES = 5  # the longest MessagePack has
MAX_LOGGED_BYTES = 1_048_576  # databricks_surface §3.3: over 1 MiB the field is null and its error code is listed
REQUEST_TOO_LARGE = "MAX_REQUEST_SIZE_EXCEEDED"
RESPONSE_TOO_LARGE = "MAX_RESPONSE_SIZE_EXCEEDED"

Headers = Sequence[tuple[str, bytes | None]]  # Kafka allows a header without a value


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """One accepted request. Everything that belongs to it is fixed here at acceptance (R7)."""

    request_id: str
    endpoint_id: str
    endpoint: str
    entity: str
    served_entity_id: str
    requester: str
    accepted_at_ms: int
    deadline_ms: int
    reply_to: str  # Redis stream of the ingress that waits
    table: str  # catalog.schema.table, or "" for none
    content_type: str
    traceparent: str  # W3C trace context, or ""
    attempt: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ScoringReply:
    """The answer to one request. `part` and `last` leave room for streamed answers; today part is 0 and last is True."""

    request_id: str
    status: int
    content_type: str
    body: bytes
    part: int = 0
    last: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row to be: a request with the answer produced for it. Times are epoch ms, durations ms."""

    request_id: str
    client_request_id: str | None
    table: str
    accepted_at_ms: int
    status: int
    duration_ms: int
    request: str | None
    response: str | None
    logging_error_codes: tuple[str, ...]
    served_entity_id: str
    requester: str
    traceparent: str


_Types = tuple[type | tuple[type, ...], ...]
_TEXT_OR_NONE = (str, NoneType)
_REPLY_TYPES: _Types = (str, int, str, bytes, int, bool)
_OUTCOME_TYPES: _Types = (str, _TEXT_OR_NONE, str, int, int, int, _TEXT_OR_NONE, _TEXT_OR_NONE, list, str, str, str)
_CODES = Outcome.__match_args__.index("logging_error_codes")
_reply_fields = attrgetter(*ScoringReply.__match_args__)  # `astuple` copies deeply, at twenty times the price
_outcome_fields = attrgetter(*Outcome.__match_args__)


def new_request_id() -> str:
    """UUIDv7: sortable by time, which the logger's dedupe relies on (R5)."""
    return str(uuid7())


def request_headers(request: ScoringRequest) -> list[tuple[str, bytes]]:
    headers = [
        *_shared_headers(
            request.endpoint,
            request.endpoint_id,
            request.entity,
            request.served_entity_id,
            request.requester,
            request.reply_to,
            request.table,
        ),
        ("ce_id", request.request_id.encode()),
        ("ce_time", f"{_second(request.accepted_at_ms // 1000)}.{request.accepted_at_ms % 1000:03}Z".encode()),
        ("content-type", request.content_type.encode()),
        ("penstock-accepted-ms", b"%d" % request.accepted_at_ms),
        ("penstock-deadline-ms", b"%d" % request.deadline_ms),
        ("penstock-attempt", b"%d" % request.attempt),
    ]
    if request.traceparent:
        headers.append(("traceparent", request.traceparent.encode()))
    return headers


@lru_cache(1024)
def _shared_headers(
    endpoint: str, endpoint_id: str, entity: str, served_entity_id: str, requester: str, reply_to: str, table: str
) -> tuple[tuple[str, bytes], ...]:
    """What one caller's requests to one served entity have in common."""
    values = {
        "ce_specversion": "1.0",
        "ce_type": REQUEST_TYPE,
        "ce_source": f"/serving-endpoints/{endpoint}",
        "penstock-endpoint-id": endpoint_id,
        "penstock-endpoint": endpoint,
        "penstock-entity": entity,
        "penstock-entity-id": served_entity_id,
        "penstock-requester": requester,
        "penstock-reply-to": reply_to,
        "penstock-table": table,
    }
    return tuple((name, value.encode()) for name, value in values.items() if value)


@lru_cache(4)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()[:19]


def parse_request(headers: Headers, body: bytes | None) -> ScoringRequest:
    """Raises EnvelopeInvalid, naming the header at fault."""
    values = dict(headers)
    if _text(values, "ce_type") != REQUEST_TYPE:
        raise EnvelopeInvalid(f"header ce_type is not {REQUEST_TYPE}")
    return ScoringRequest(
        request_id=_text(values, "ce_id"),
        endpoint_id=_text(values, "penstock-endpoint-id"),
        endpoint=_text(values, "penstock-endpoint"),
        entity=_text(values, "penstock-entity"),
        served_entity_id=_text(values, "penstock-entity-id"),
        requester=_text(values, "penstock-requester"),
        accepted_at_ms=_number(values, "penstock-accepted-ms"),
        deadline_ms=_number(values, "penstock-deadline-ms"),
        reply_to=_text(values, "penstock-reply-to"),
        table=(values.get("penstock-table") or b"").decode(errors="replace"),
        content_type=_text(values, "content-type"),
        traceparent=(values.get("traceparent") or b"").decode(errors="replace"),
        attempt=_number(values, "penstock-attempt"),
        body=body or b"",
    )


def _text(values: dict[str, bytes | None], name: str) -> str:
    value = values.get(name)
    if not value:
        raise EnvelopeInvalid(f"header {name} is missing")
    return value.decode("utf-8", "replace")


def _number(values: dict[str, bytes | None], name: str) -> int:
    try:
        return int(_text(values, name))
    except ValueError as error:
        raise EnvelopeInvalid(f"header {name} is not a number") from error


def pack_replies(replies: Iterable[ScoringReply]) -> bytes:
    packed: bytes = msgpack.packb([_reply_fields(reply) for reply in replies])
    return packed


def unpack_replies(packed: bytes) -> list[ScoringReply]:
    """Raises EnvelopeInvalid on bytes that `pack_replies` did not make."""
    return [ScoringReply(*fields) for fields in _unpacked(packed, _REPLY_TYPES)]


def to_outcome(request: ScoringRequest, reply: ScoringReply, client_request_id: str | None, duration_ms: int) -> Outcome:
    """The row of a request that got this reply; what is over 1 MiB is null, with its error code."""
    codes = []
    if len(request.body) > MAX_LOGGED_BYTES:
        codes.append(REQUEST_TOO_LARGE)
    if len(reply.body) > MAX_LOGGED_BYTES:
        codes.append(RESPONSE_TOO_LARGE)
    return Outcome(
        request_id=request.request_id,
        client_request_id=client_request_id and client_request_id.encode(errors="replace").decode(),  # a lone surrogate has no UTF-8
        table=request.table,
        accepted_at_ms=request.accepted_at_ms,
        status=reply.status,
        duration_ms=duration_ms,
        request=None if REQUEST_TOO_LARGE in codes else request.body.decode(errors="replace"),
        response=None if RESPONSE_TOO_LARGE in codes else reply.body.decode(errors="replace"),
        logging_error_codes=tuple(codes),
        served_entity_id=request.served_entity_id,
        requester=request.requester,
        traceparent=request.traceparent,
    )


def pack_outcomes(outcomes: Iterable[Outcome]) -> Iterator[bytes]:
    """Pack outcomes, in order, into records of at most MAX_PACK_BYTES; a larger one travels alone."""
    pack: list[bytes] = []
    size = ARRAY_HEADER_BYTES
    for outcome in outcomes:
        row: bytes = msgpack.packb(_outcome_fields(outcome))
        if pack and size + len(row) > MAX_PACK_BYTES:
            yield _array(pack)
            pack, size = [], ARRAY_HEADER_BYTES
        pack.append(row)
        size += len(row)
    if pack:
        yield _array(pack)


def unpack_outcomes(packed: bytes) -> list[Outcome]:
    """Raises EnvelopeInvalid on bytes that `pack_outcomes` did not make."""
    rows = _unpacked(packed, _OUTCOME_TYPES)
    for row in rows:
        row[_CODES] = tuple(row[_CODES])
    return [Outcome(*row) for row in rows]


def _array(packed_items: list[bytes]) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(len(packed_items))
    return header + b"".join(packed_items)


def _unpacked(packed: bytes, types: _Types) -> list[list[Any]]:
    try:
        items = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        raise EnvelopeInvalid(f"not a pack: {error}") from error
    if not isinstance(items, list) or not all(_fits(item, types) for item in items):
        raise EnvelopeInvalid("not a pack of the fields that were expected")
    return items


def _fits(item: Any, types: _Types) -> bool:
    return isinstance(item, list) and len(item) == len(types) and all(map(isinstance, item, types))
