"""What is put into the envelope comes out of it, and garbage comes out as EnvelopeInvalid."""

import json
from dataclasses import astuple, replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.envelope import (
    MAX_LOGGED_BYTES,
    MAX_PACK_BYTES,
    Outcome,
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
from services.shared.errors import EnvelopeInvalid

REQUEST = ScoringRequest(
    request_id="019c4773-5400-7000-8000-000000000001",
    endpoint_id="e1",
    endpoint="churn",
    entity="a",
    served_entity_id="0" * 32,
    requester="ada",
    accepted_at_ms=1_770_724_800_123,
    deadline_ms=1_770_724_920_123,
    reply_to="penstock:replies:i1",
    table="main.ml.churn_payload",
    content_type="application/json",
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    attempt=1,
    body=b'{"inputs": [[1.0]]}',
)
REPLY = ScoringReply(REQUEST.request_id, 200, "application/json", b'{"predictions": [0.5]}')

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MAYBE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MS = st.integers(0, 4_000_000_000_000)
REQUESTS = st.builds(
    ScoringRequest,
    *(TEXT for _ in range(6)),
    accepted_at_ms=MS,
    deadline_ms=MS,
    reply_to=TEXT,
    table=MAYBE,
    content_type=TEXT,
    traceparent=MAYBE,
    attempt=st.integers(1, 9),
    body=st.binary(max_size=50),
    results_to=MAYBE,
    key=st.binary(max_size=9),
    legacy_model=MAYBE,
    submission=MAYBE,
    sampling_fraction=st.floats(0, 1),
).map(lambda request: replace(request, results_partition=len(request.results_to)))  # 0 where no result goes anywhere
REPLIES = st.builds(ScoringReply, TEXT, st.integers(200, 599), TEXT, st.binary(max_size=50), st.integers(0, 9), st.booleans())
OUTCOMES = st.builds(
    Outcome,
    request_id=TEXT,
    client_request_id=st.none() | MAYBE,
    table=MAYBE,
    accepted_at_ms=MS,
    status=st.integers(200, 599),
    duration_ms=MS,
    request=st.none() | MAYBE,
    response=st.none() | MAYBE,
    logging_error_codes=st.lists(TEXT, max_size=2).map(tuple),
    served_entity_id=TEXT,
    requester=TEXT,
    traceparent=MAYBE,
    legacy=st.none() | st.tuples(MAYBE, MAYBE, MAYBE),
    sampling_fraction=st.floats(0, 1),
)
# What a header or a pack may hold when somebody else wrote it.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=13) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def changed(name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    """The headers of a good request, one of them another value or, for None, absent."""
    return [(n, value if n == name else v) for n, v in request_headers(REQUEST) if n != name or value is not None]


@given(REQUESTS)
def test_a_request_comes_out_as_it_went_in(request: ScoringRequest) -> None:
    assert parse_request(request_headers(request), request.body, request.key) == request


@given(st.lists(REPLIES, max_size=5))
def test_replies_come_out_as_they_went_in(replies: list[ScoringReply]) -> None:
    assert unpack_replies(pack_replies(replies)) == replies


@given(st.lists(OUTCOMES, max_size=5))
def test_outcomes_come_out_as_they_went_in(outcomes: list[Outcome]) -> None:
    assert [o for pack in pack_outcomes(outcomes) for o in unpack_outcomes(pack)] == outcomes


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 1_100_000), max_size=12))
def test_packs_stay_under_the_limit_unless_one_outcome_is_larger(sizes: list[int]) -> None:
    base = to_outcome(REQUEST, REPLY, None, 1)
    outcomes = [replace(base, request_id=str(i), response="x" * size) for i, size in enumerate(sizes)]
    packs = list(pack_outcomes(outcomes))
    assert [o for pack in packs for o in unpack_outcomes(pack)] == outcomes
    assert all(len(pack) <= MAX_PACK_BYTES or len(unpack_outcomes(pack)) == 1 for pack in packs)


def test_the_header_of_a_pack_counts_too() -> None:
    row = len(msgpack.packb(astuple(to_outcome(REQUEST, REPLY, None, 1))))
    exactly = [to_outcome(REQUEST, REPLY, None, 1)] * (MAX_PACK_BYTES // row)
    filler = MAX_PACK_BYTES - row * len(exactly)
    assert filler < row
    exactly[0] = replace(exactly[0], requester="a" * (len("ada") + filler - 1))
    assert all(len(pack) <= MAX_PACK_BYTES for pack in pack_outcomes(exactly))


def test_few_outcomes_are_one_pack_and_none_is_no_pack() -> None:
    assert len(list(pack_outcomes([to_outcome(REQUEST, REPLY, None, 1)] * 64))) == 1
    assert list(pack_outcomes([])) == []


@pytest.mark.parametrize("unpack", [unpack_replies, unpack_outcomes])
@given(garbage=st.binary(max_size=60) | VALUES.map(msgpack.packb) | st.lists(st.lists(VALUES, max_size=13)).map(msgpack.packb))
def test_garbage_is_nothing_but_an_invalid_envelope(unpack: object, garbage: bytes) -> None:
    try:
        found = unpack(garbage)  # type: ignore[operator]
    except EnvelopeInvalid:
        return
    assert isinstance(found, list)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([["r", 200, "t", b""]], id="too few fields"),
        pytest.param([["r", 200, "t", b"", 0, True, 1]], id="too many fields"),
        pytest.param([[["r"], 200, "t", b"", 0, True]], id="an id that is a list"),
        pytest.param([["r", "200", "t", b"", 0, True]], id="a status that is a text"),
        pytest.param([["r", 200, "t", "", 0, True]], id="a body that is a text"),
        pytest.param({"r": 1}, id="a map"),
        pytest.param([1], id="an array of numbers"),
    ],
)
def test_a_pack_of_other_fields_is_invalid(fields: object) -> None:
    with pytest.raises(EnvelopeInvalid):
        unpack_replies(msgpack.packb(fields))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("ce_id", None, "header ce_id is missing", id="no id"),
        pytest.param("ce_id", b"", "header ce_id is missing", id="an empty id"),
        pytest.param("ce_type", b"other.v1", "header ce_type is not penstock.scoring-request.v1", id="a record of another kind"),
        pytest.param("penstock-deadline-ms", b"soon", "header penstock-deadline-ms is not a number", id="a deadline in words"),
        pytest.param("penstock-deadline-ms", b"9" * 5000, "header penstock-deadline-ms is not a number", id="a deadline of 5,000 digits"),
        pytest.param("penstock-attempt", b"\xff", "header penstock-attempt is not a number", id="an attempt that is no UTF-8"),
        pytest.param("content-type", None, "header content-type is missing", id="no content type"),
        pytest.param("penstock-reply-to", None, "header penstock-reply-to is missing", id="nobody to answer"),
    ],
)
def test_an_invalid_header_is_named(name: str, value: bytes | None, message: str) -> None:
    with pytest.raises(EnvelopeInvalid, match=f"^{message}$"):
        parse_request(changed(name, value), b"{}")


@given(
    st.lists(st.tuples(st.sampled_from([n for n, _ in request_headers(REQUEST)]) | st.text(max_size=5), st.none() | st.binary(max_size=8)))
)
def test_any_headers_are_a_request_or_an_invalid_envelope(headers: list[tuple[str, bytes | None]]) -> None:
    try:
        parse_request([*request_headers(REQUEST), *headers], None)
    except EnvelopeInvalid as error:
        assert error.message.startswith("header ")  # noqa: PT017  not raising is as good


def test_a_request_whose_result_goes_to_a_topic_needs_no_reply_stream() -> None:
    bulk = replace(REQUEST, reply_to="", results_to="penstock.batch-results", results_partition=2, key=b"k", submission="0/7")
    headers = request_headers(bulk)
    assert parse_request(headers, bulk.body, bulk.key) == bulk
    assert {name: value for name, value in headers if name.startswith(("penstock-res", "penstock-sub"))} == {
        "penstock-results-to": b"penstock.batch-results",
        "penstock-results-partition": b"2",
        "penstock-submission": b"0/7",
    }


def test_a_record_without_value_is_an_empty_body() -> None:
    assert parse_request(request_headers(REQUEST), None).body == b""


def test_the_names_on_the_wire_stay() -> None:
    assert dict(request_headers(REQUEST)) == {
        "ce_specversion": b"1.0",
        "ce_id": b"019c4773-5400-7000-8000-000000000001",
        "ce_type": b"penstock.scoring-request.v1",
        "ce_source": b"/serving-endpoints/churn",
        "ce_time": b"2026-02-10T12:00:00.123Z",
        "content-type": b"application/json",
        "traceparent": REQUEST.traceparent.encode(),
        "penstock-endpoint-id": b"e1",
        "penstock-endpoint": b"churn",
        "penstock-entity": b"a",
        "penstock-entity-id": b"0" * 32,
        "penstock-requester": b"ada",
        "penstock-accepted-ms": b"1770724800123",
        "penstock-deadline-ms": b"1770724920123",
        "penstock-reply-to": b"penstock:replies:i1",
        "penstock-table": b"main.ml.churn_payload",
        "penstock-attempt": b"1",
    }


@pytest.mark.parametrize(
    ("request_size", "response_size", "codes"),
    [
        pytest.param(0, MAX_LOGGED_BYTES, (), id="exactly 1 MiB is logged"),
        pytest.param(MAX_LOGGED_BYTES + 1, 0, ("MAX_REQUEST_SIZE_EXCEEDED",), id="a larger request is null"),
        pytest.param(0, MAX_LOGGED_BYTES + 1, ("MAX_RESPONSE_SIZE_EXCEEDED",), id="a larger response is null"),
        pytest.param(
            MAX_LOGGED_BYTES + 1, MAX_LOGGED_BYTES + 1, ("MAX_REQUEST_SIZE_EXCEEDED", "MAX_RESPONSE_SIZE_EXCEEDED"), id="both are null"
        ),
    ],
)
def test_what_is_over_one_mib_is_null_with_its_code(request_size: int, response_size: int, codes: tuple[str, ...]) -> None:
    row = to_outcome(replace(REQUEST, body=b"x" * request_size), replace(REPLY, body=b"x" * response_size), None, 1)
    assert row.logging_error_codes == codes
    assert (row.request is None) == ("MAX_REQUEST_SIZE_EXCEEDED" in codes)
    assert (row.response is None) == ("MAX_RESPONSE_SIZE_EXCEEDED" in codes)


def test_a_row_carries_request_and_reply() -> None:
    assert to_outcome(REQUEST, REPLY, "order-7", 12) == Outcome(
        REQUEST.request_id, "order-7", REQUEST.table, REQUEST.accepted_at_ms, 200, 12, '{"inputs": [[1.0]]}', '{"predictions": [0.5]}', (),
        "0" * 32, "ada", REQUEST.traceparent,
    )  # fmt: skip


def test_a_row_of_a_legacy_table_carries_its_model() -> None:
    row = to_outcome(replace(REQUEST, legacy_model="ml.scores/3"), REPLY, None, 1)
    assert row.legacy == ("churn", "ml.scores", "3")
    assert [o for pack in pack_outcomes([row]) for o in unpack_outcomes(pack)] == [row]


def test_outcomes_of_an_older_version_are_read() -> None:
    row = to_outcome(REQUEST, REPLY, None, 1)
    fields = [getattr(row, name) for name in Outcome.__match_args__[:12]]
    assert unpack_outcomes(msgpack.packb([fields])) == [row]
    with pytest.raises(EnvelopeInvalid):
        unpack_outcomes(msgpack.packb([fields[:11]]))
    with pytest.raises(EnvelopeInvalid):
        unpack_outcomes(msgpack.packb([[*fields, ["churn", "scores"]]]))


def test_a_client_id_with_a_lone_surrogate_can_be_packed() -> None:
    row = to_outcome(REQUEST, REPLY, json.loads(r'"a\ud800b"'), 1)
    assert [o.client_request_id for pack in pack_outcomes([row]) for o in unpack_outcomes(pack)] == ["a?b"]


def test_request_ids_sort_by_time() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert sorted(ids) == ids
    assert len(set(ids)) == 1000
