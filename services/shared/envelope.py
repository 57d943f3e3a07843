"""Requests, replies and outcomes on the wire: the only code that knows header names and packings.

A request is one Kafka record: the caller's bytes untouched, everything else in headers (CloudEvents binary mode plus
Penstock's own). Replies and outcomes are packed, many to a Redis entry or a Kafka record, as MessagePack arrays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
REPLIES, REPLICA = b"p", b"r"  # fields of an entry of a reply stream: a pack, and the id of the replica that answers
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
    reply_to: str  # Redis streams, with spaces between them; "" where only `results_to` is given
    table: str  # catalog.schema.table, or "" for none
    content_type: str
    traceparent: str  # W3C trace context, or ""
    attempt: int
    body: bytes
    results_to: str = ""  # Kafka topic for the result record, or "" for none
    results_partition: int = 0
    key: bytes = b""  # the record's own, carried on to the result; b"" for none
    legacy_model: str = ""  # `name/version`, where the table has the legacy layout, whose rows tell it
    submission: str = ""  # by what its sender knows it: an id of theirs, or where its record lies; carried on to the result
    sampling_fraction: float = 1.0  # the share of its endpoint's requests that has a table at all


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
    legacy: tuple[str, str, str] | None = None  # endpoint name, model name and version, where the table has the legacy layout
    sampling_fraction: float = 1.0


_Types = tuple[type | tuple[type, ...], ...]
_TEXT_OR_NONE = (str, NoneType)
_REPLY_TYPES: _Types = (str, int, str, bytes, int, bool)
_OUTCOME_TYPES: _Types = (
    *(str, _TEXT_OR_NONE, str, int, int, int, _TEXT_OR_NONE, _TEXT_OR_NONE, list, str, str, str),
    (list, NoneType),
    float,
)
_OLDEST_OUTCOME = 12  # fields; what came later has defaults, so that records of an older version are read
_CODES, _LEGACY = (Outcome.__match_args__.index(name) for name in ("logging_error_codes", "legacy"))
_reply_fields = attrgetter(*ScoringReply.__match_args__)  # `astuple` copies deeply, at twenty times the price
_outcome_fields = attrgetter(*Outcome.__match_args__)


def new_request_id() -> str:
    """UUIDv7: sortable by time, which the logger's dedupe relies on (R5)."""
    return str(uuid7())


def request_headers(request: ScoringRequest) -> list[tuple[str, bytes]]:
    headers = [  # the key travels as the record's own
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
        ("ce_time", cloud_event_time(request.accepted_at_ms)),
        ("content-type", request.content_type.encode()),
        ("penstock-accepted-ms", b"%d" % request.accepted_at_ms),
        ("penstock-deadline-ms", b"%d" % request.deadline_ms),
        ("penstock-attempt", b"%d" % request.attempt),
    ]
    if request.traceparent:
        headers.append(("traceparent", request.traceparent.encode()))
    if request.results_to:
        headers.append(("penstock-results-to", request.results_to.encode()))
        headers.append(("penstock-results-partition", b"%d" % request.results_partition))
    if request.legacy_model:
        headers.append(("penstock-legacy-model", request.legacy_model.encode()))
    if request.submission:
        headers.append(("penstock-submission", request.submission.encode()))
    if request.sampling_fraction != 1:
        headers.append(("penstock-sampling-fraction", repr(request.sampling_fraction).encode()))
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


def cloud_event_time(epoch_ms: int) -> bytes:
    """RFC 3339."""
    return f"{_second(epoch_ms // 1000)}.{epoch_ms % 1000:03}Z".encode()


@lru_cache(4)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()[:19]


def parse_request(headers: Headers, body: bytes | None, key: bytes | None = None) -> ScoringRequest:
    """Raises EnvelopeInvalid, naming the header at fault."""
    values = dict(headers)
    if header_text(values, "ce_type") != REQUEST_TYPE:
        raise EnvelopeInvalid(f"header ce_type is not {REQUEST_TYPE}")
    results_to = optional_header(values, "penstock-results-to")
    return ScoringRequest(
        request_id=header_text(values, "ce_id"),
        endpoint_id=header_text(values, "penstock-endpoint-id"),
        endpoint=header_text(values, "penstock-endpoint"),
        entity=header_text(values, "penstock-entity"),
        served_entity_id=header_text(values, "penstock-entity-id"),
        requester=header_text(values, "penstock-requester"),
        accepted_at_ms=header_number(values, "penstock-accepted-ms"),
        deadline_ms=header_number(values, "penstock-deadline-ms"),
        reply_to=optional_header(values, "penstock-reply-to") if results_to else header_text(values, "penstock-reply-to"),
        table=optional_header(values, "penstock-table"),
        content_type=header_text(values, "content-type"),
        traceparent=optional_header(values, "traceparent"),
        attempt=header_number(values, "penstock-attempt"),
        body=body or b"",
        results_to=results_to,
        results_partition=header_number(values, "penstock-results-partition") if results_to else 0,
        key=key or b"",
        legacy_model=optional_header(values, "penstock-legacy-model"),
        submission=optional_header(values, "penstock-submission"),
        sampling_fraction=_fraction(optional_header(values, "penstock-sampling-fraction")),
    )


def _fraction(text: str) -> float:
    """1.0 where none is given."""
    try:
        return float(text) if text else 1.0
    except ValueError as error:
        raise EnvelopeInvalid("header penstock-sampling-fraction is not a number") from error


def header_text(values: Mapping[str, bytes | None], name: str) -> str:
    """Raises EnvelopeInvalid where there is none."""
    value = values.get(name)
    if not value:
        raise EnvelopeInvalid(f"header {name} is missing")
    return value.decode("utf-8", "replace")


def optional_header(values: Mapping[str, bytes | None], name: str) -> str:
    """An empty one for none."""
    return (values.get(name) or b"").decode(errors="replace")


def header_number(values: Mapping[str, bytes | None], name: str) -> int:
    """Raises EnvelopeInvalid where there is none."""
    try:
        return int(header_text(values, name))
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
        legacy=(request.endpoint, *_name_and_version(request.legacy_model)) if request.legacy_model else None,
        sampling_fraction=request.sampling_fraction,
    )


def _name_and_version(model: str) -> tuple[str, str]:
    name, _, version = model.rpartition("/")
    return name, version


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
    rows = _unpacked(packed, _OUTCOME_TYPES, _OLDEST_OUTCOME)
    for row in rows:
        row[_CODES] = tuple(row[_CODES])
        if len(row) > _LEGACY and row[_LEGACY] is not None:
            row[_LEGACY] = _three_texts(row[_LEGACY])
    return [Outcome(*row) for row in rows]


def _three_texts(found: list[Any]) -> tuple[str, ...]:
    if len(found) != 3 or not all(isinstance(text, str) for text in found):
        raise EnvelopeInvalid("not what a row of the legacy layout tells of its model")
    return tuple(found)


def _array(packed_items: list[bytes]) -> bytes:
    header: bytes = msgpack.Packer().pack_array_header(len(packed_items))
    return header + b"".join(packed_items)


def _unpacked(packed: bytes, types: _Types, least: int | None = None) -> list[list[Any]]:
    """`least`: how many of the fields there must be, where those that came later have defaults."""
    try:
        items = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        raise EnvelopeInvalid(f"not a pack: {error}") from error
    if not isinstance(items, list) or not all(_fits(item, types, least or len(types)) for item in items):
        raise EnvelopeInvalid("not a pack of the fields that were expected")
    return items


def _fits(item: Any, types: _Types, least: int) -> bool:
    return isinstance(item, list) and least <= len(item) <= len(types) and all(map(isinstance, item, types))
