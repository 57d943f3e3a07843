"""What is asked for besides an answer."""

import pytest

from services.ingress.preferences import MAX_KEY, Preferences, preferences_of
from services.shared.errors import ParameterInvalid


@pytest.mark.parametrize(
    ("headers", "preferences"),
    [
        pytest.param([(b"accept", b"*/*")], None, id="nothing"),
        pytest.param([(b"prefer", b"respond-async")], Preferences(True), id="a 202 at once"),
        pytest.param([(b"prefer", b"respond-async, wait=10")], Preferences(True, 10), id="a 202 after ten seconds"),
        pytest.param([(b"prefer", b"wait=5"), (b"prefer", b'Respond-Async; x="y"')], Preferences(True, 5), id="several lines, any case"),
        pytest.param([(b"prefer", b"respond-async, wait=soon")], Preferences(True), id="a wait that is no number is passed over"),
        pytest.param([(b"prefer", b"respond-async, wait=1, wait=9")], Preferences(True, 1), id="of what comes twice the first counts"),
        pytest.param([(b"prefer", b"return=minimal, wait=5")], None, id="what means nothing here is passed over"),
        pytest.param([(b"idempotency-key", b"monday")], Preferences(key="monday"), id="a key"),
        pytest.param([(b"idempotency-key", b"")], None, id="an empty key is none"),
        pytest.param([(b"idempotency-key", b"k"), (b"prefer", b"respond-async")], Preferences(True, key="k"), id="a key and a 202"),
    ],
)
def test_preferences(headers: list[tuple[bytes, bytes]], preferences: Preferences | None) -> None:
    assert preferences_of(headers) == preferences


def test_a_key_has_an_end() -> None:
    assert preferences_of([(b"idempotency-key", b"k" * MAX_KEY)])
    with pytest.raises(ParameterInvalid, match="at most 256 characters"):
        preferences_of([(b"idempotency-key", b"k" * (MAX_KEY + 1))])
