"""The closed list of what Penstock answers otherwise than MLflow: the table of `docs/fidelity.md`, row by row, as checks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.oracle import NO_ANSWER, Seen

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
JSON = "application/json"


def documented() -> list[str]:
    """The first column of the page's table."""
    return re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)


def _nan_is_null(theirs: Seen, ours: Seen) -> None:
    assert (theirs.status, theirs.content_type) == (ours.status, ours.content_type) == (200, JSON)
    assert json.loads(ours.text, parse_constant=_no_constant) == json.loads(theirs.text, parse_constant=lambda token: None)


def _no_constant(token: str) -> None:
    raise AssertionError(f"{token} is not JSON")


def _text_in_an_envelope(theirs: Seen, ours: Seen) -> None:
    assert (theirs.status, theirs.content_type.partition("/")[0]) == (415, "text")
    assert (ours.status, ours.content_type) == (415, JSON)
    assert json.loads(ours.text) == {"error_code": "UNSUPPORTED_MEDIA_TYPE", "message": theirs.text, "details": []}


def _unwritable_output(theirs: Seen, ours: Seen) -> None:
    error = _own_words_for_a_500(theirs, ours)
    assert (ours.status, error["error_code"]) == (500, "INTERNAL_ERROR")
    assert error["message"].startswith("The model's output cannot be written as JSON: ")


def _unreadable_input(theirs: Seen, ours: Seen) -> None:
    error = _own_words_for_a_500(theirs, ours)
    assert (ours.status, error["error_code"]) == (400, "BAD_REQUEST")
    assert error["message"].startswith("Invalid input. ")


def _model_exits(theirs: Seen, ours: Seen) -> None:
    error = _error(ours)
    assert (theirs, ours.status, error["error_code"]) == (NO_ANSWER, 400, "BAD_REQUEST")
    assert "SystemExit" in error["stack_trace"]


def _no_content_type(theirs: Seen, ours: Seen) -> None:
    error = _own_words_for_a_500(theirs, ours)
    assert (ours.status, error["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def _other_method(theirs: Seen, ours: Seen) -> None:
    assert (theirs.status, json.loads(theirs.text)) == (405, {"detail": "Method Not Allowed"})
    assert (ours.status, _error(ours)["error_code"]) == (405, "METHOD_NOT_ALLOWED")


def _own_words_for_a_500(theirs: Seen, ours: Seen) -> dict[str, Any]:
    assert theirs == Seen(500, "text/plain", "Internal Server Error")
    return _error(ours)


def _error(ours: Seen) -> dict[str, Any]:
    assert ours.content_type == JSON
    error: dict[str, Any] = json.loads(ours.text)
    return error


DEVIATIONS: dict[str, Callable[[Seen, Seen], None]] = {
    "nan-is-null": _nan_is_null,
    "text-in-an-envelope": _text_in_an_envelope,
    "unwritable-output": _unwritable_output,
    "unreadable-input": _unreadable_input,
    "model-exits": _model_exits,
    "no-content-type": _no_content_type,
    "other-method": _other_method,
}


def check(deviation: str | None, theirs: Seen, ours: Seen) -> None:
    """Equal to the letter, or different in just the way that the deviation says."""
    if deviation is None:
        assert ours == theirs, f"\nMLflow:   {theirs}\nPenstock: {ours}"
    else:
        DEVIATIONS[deviation](theirs, ours)
