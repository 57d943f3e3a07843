import pytest

from services.scorer.redaction import redact, to_secrets


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        pytest.param(["s3cret"], "key=s3cret.", "key=[REDACTED].", id="a value is hidden wherever it stands"),
        pytest.param(["abcd", "abcdef"], "abcdef", "[REDACTED]", id="the longer of two values goes first"),
        pytest.param(["1"], "1 of 1", "1 of 1", id="a value too short to be a secret stays"),
        pytest.param(["line one\nline two"], "line two", "[REDACTED]", id="each line of a value is hidden"),
        pytest.param([], "at https://me:pw@index/simple", "at https://[REDACTED]@index/simple", id="credentials in addresses are hidden"),
    ],
)
def test_redact(values: list[str], text: str, expected: str) -> None:
    assert redact(text, to_secrets(values)) == expected
