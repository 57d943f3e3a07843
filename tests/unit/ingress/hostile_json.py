"""Bodies that are no plain JSON object, each with the error that refuses it. All are 400."""

import pytest

from services.ingress.bodies import MAX_MANAGEMENT_BODY
from services.shared.errors import ParameterInvalid, PayloadTooLarge, RequestRejected

HOSTILE = [
    pytest.param(b"", RequestRejected, id="nothing"),
    pytest.param(b"{", RequestRejected, id="half an object"),
    pytest.param(b"[" * 100_000, RequestRejected, id="lists without end"),
    pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, RequestRejected, id="objects too deep"),
    pytest.param(b'{"a": NaN}', RequestRejected, id="NaN"),
    pytest.param(b'{"a": -Infinity}', RequestRejected, id="infinity"),
    pytest.param(b'{"a": 1e999}', RequestRejected, id="a number that becomes infinity"),
    pytest.param(b'{"a": ' + b"9" * 5000 + b"}", RequestRejected, id="a number of 5,000 digits"),
    pytest.param(b'{"a": "\\ud800"}', RequestRejected, id="a lone surrogate"),
    pytest.param(b'{"\\ud800": 1}', RequestRejected, id="a lone surrogate in a key"),
    pytest.param(b'{"a": 1, "a": 2}', RequestRejected, id="a key twice"),
    pytest.param(b'{"x": {"a": 1, "a": 2}}', RequestRejected, id="a key twice further in"),
    pytest.param(b'{"a": "\xff"}', RequestRejected, id="no UTF-8"),
    pytest.param('{"a": 1}'.encode("utf-16"), RequestRejected, id="UTF-16"),
    pytest.param(b'"', RequestRejected, id="half a string"),
    pytest.param(b'{"a": 01}', RequestRejected, id="a number that begins with 0"),
    pytest.param(b'{"a": "\n"}', RequestRejected, id="a bare line end in a string"),
    pytest.param(b'{"a": 1} {}', RequestRejected, id="something after the object"),
    pytest.param(b"[1]", ParameterInvalid, id="a list"),
    pytest.param(b"null", ParameterInvalid, id="null"),
    pytest.param(b" " * (MAX_MANAGEMENT_BODY + 1), PayloadTooLarge, id="too long"),
]
