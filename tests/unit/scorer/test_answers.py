import json

import pytest

from services.scorer.answers import CRASHED, EXPIRED, REFUSED, TIMED_OUT, Answer, final_reply
from services.scorer.model_worker.frames import LENGTHS, client_request_id_of, encode_frame
from services.scorer.model_worker.mlflow_scoring import strict_json
from services.scorer.replies import pack_by_stream
from services.shared.envelope import ScoringReply, ScoringRequest, unpack_replies

REQUEST = ScoringRequest("id", "e", "name", "m-1", "sid", "admin", 0, 1_000, "stream", "", "application/json", "", 0, b"{}")
GOOD = Answer(200, "application/json", b'{"predictions": [1]}')


@pytest.mark.parametrize(
    ("answer", "now_ms", "status"),
    [
        pytest.param(GOOD, 999, 200, id="before the deadline the answer stands"),
        pytest.param(GOOD, 1_000, 504, id="nothing turns 200 at its deadline or later"),
        pytest.param(CRASHED, 1_001, 504, id="a late crash is a 504 too"),
        pytest.param(REFUSED, 1_001, 504, id="a late refusal is a 504 too"),
        pytest.param(TIMED_OUT, 1_001, 504, id="a timeout stays one"),
    ],
)
def test_final_reply(answer: Answer, now_ms: int, status: int) -> None:
    assert final_reply(REQUEST, answer, now_ms).status == status


@pytest.mark.parametrize("answer", [CRASHED, EXPIRED, REFUSED, TIMED_OUT])
def test_own_answers_do_not_trip_the_retries_of_the_sdk(answer: Answer) -> None:
    said = json.loads(answer.body)
    assert set(said) == {"error_code", "message", "details"}
    assert "Unexpected error" not in said["message"]
    assert "try again later" not in said["message"]


def test_frame_carries_lengths_header_and_body() -> None:
    frame = encode_frame({"id": 7}, b"\x00body")
    head, body = LENGTHS.unpack(frame[: LENGTHS.size])
    assert json.loads(frame[LENGTHS.size : LENGTHS.size + head]) == {"id": 7}
    assert frame[-body:] == b"\x00body"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"client_request_id": "a", "inputs": [1]}', "a", id="a string is taken"),
        pytest.param(b'{"client_request_id": 5}', None, id="anything but a string is not"),
        pytest.param(b'{"inputs": {"client_request_id": "a"}}', None, id="only the top level counts"),
        pytest.param(b'{"client_request_id": "a"', None, id="broken JSON has none"),
    ],
)
def test_client_request_id(body: bytes, expected: str | None) -> None:
    assert client_request_id_of(body) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"predictions": [NaN, -Infinity, 1.5]}', '{"predictions": [null, null, 1.5]}', id="bare tokens become null"),
        pytest.param('{"predictions":["NaN"]}', '{"predictions": ["NaN"]}', id="a string stays a string"),
        pytest.param('{"predictions":[1]}', '{"predictions":[1]}', id="what is strict is not written anew"),
    ],
)
def test_strict_json(text: str, expected: str) -> None:
    assert strict_json(text) == expected


def test_large_replies_travel_alone() -> None:
    small, large = ScoringReply("s", 200, "t", b"x"), ScoringReply("l", 200, "t", b"x" * 2_000_000)
    packed = pack_by_stream([("a", small), ("a", large), ("a", small), ("b", small)])
    assert [len(unpack_replies(p)) for p in packed["a"]] == [1, 1, 1]
    assert [len(unpack_replies(p)) for p in packed["b"]] == [1]
