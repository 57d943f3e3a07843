import pytest

from services.scorer.redaction import HIDDEN, redact, redact_error, split_line, to_secrets


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        pytest.param(["s3cret"], "key=s3cret.", "key=[REDACTED].", id="a value is hidden wherever it stands"),
        pytest.param(["abcd", "abcdef"], "abcdef", "[REDACTED]", id="the longer of two values goes first"),
        pytest.param(["1"], "1 of 1", "1 of 1", id="a value too short to be a secret stays"),
        pytest.param(["line one\nline two"], "line two", "[REDACTED]", id="each line of a value is hidden"),
        pytest.param(['p"w\\\té'], r"'p\"w\\\té'", "'[REDACTED]'", id="as Python quotes it"),
        pytest.param(['p"w\\\té'], r'"p\"w\\\t\u00e9"', '"[REDACTED]"', id="as JSON quotes it"),
        pytest.param(['p"w\\\té'], "pg://p%22w%5C%09%C3%A9/db", "pg://[REDACTED]/db", id="as an address quotes it"),
        pytest.param([], "at https://me:pw@index/simple", "at https://[REDACTED]@index/simple", id="credentials in addresses are hidden"),
    ],
)
def test_redact(values: list[str], text: str, expected: str) -> None:
    assert redact(text, to_secrets(values)) == expected


SECRETS = to_secrets(['p"w\\é', "ERROR"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(b'{"message":"p\\"w\\\\\\u00e9"}', b'{"message": "[REDACTED]"}', id="what JSON quotes is known"),
        pytest.param(
            b'{"error_code":"INTERNAL_ERROR","message":"ERROR"}',
            b'{"error_code": "INTERNAL_ERROR", "message": "[REDACTED]"}',
            id="a value that is a part of the error's word leaves clients their word",
        ),
        pytest.param(b'{"a":[{"b":"an ERROR"},1,null]}', b'{"a": [{"b": "an [REDACTED]"}, 1, null]}', id="wherever it stands"),
        pytest.param(b'{ "message":"\\u00e8" }', b'{ "message":"\\u00e8" }', id="without a secret nothing changes"),
        pytest.param(b"<p>ERROR</p>", b"<p>[REDACTED]</p>", id="no JSON"),
        pytest.param(b"[" * 100_000 + b"ERROR", b"[" * 100_000 + b"[REDACTED]", id="JSON too deep to be read"),
    ],
)
def test_the_body_of_an_error(body: bytes, told: bytes) -> None:
    assert redact_error(body, SECRETS) == told


@pytest.mark.parametrize("step", [1, 7, 64])
def test_a_long_line_is_told_in_pieces_that_cut_no_secret(step: int) -> None:
    secrets, line, told, rest = to_secrets(["é-secret-é"]), "x.é-secret-éé-secret-é" * 20, b"", b""
    for start in range(0, len(line.encode()), step):
        piece, rest = split_line(rest + line.encode()[start : start + step], 8, secrets)
        told += piece
    assert redact((told + rest).decode(), secrets) == f"x.{HIDDEN}{HIDDEN}" * 20
    assert "secret" not in told.decode()
