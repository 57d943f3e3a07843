"""An item's answer as predictions of its rows, or as the error that each of them gets. Pure."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RowError:
    error_code: str
    message: str


class NotByRow(Exception):
    """The answer does not say what is predicted for which row. `str()` says what it holds instead."""


NOT_SCORED = RowError("CANCELLED", "The batch ended before this row was scored.")


def read_predictions(body: bytes, rows: int) -> list[Any]:
    """One for each of the rows that were asked for; whatever the answer to a single row is, is its prediction. Raises NotByRow."""
    try:
        answer = json.loads(body)
        found = answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer
    except (ValueError, RecursionError) as error:
        raise NotByRow("The answer of the model is no JSON.") from error
    if isinstance(found, list) and len(found) == rows:
        return found
    if isinstance(found, dict) and found and all(isinstance(values, list) and len(values) == rows for values in found.values()):
        return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    if rows == 1:
        return [found]
    held = f"{len(found)} predictions" if isinstance(found, list) else "one prediction"
    raise NotByRow(f"The model answered {rows} rows with {held}.")


def row_error(status: int, body: bytes) -> RowError:
    """What an answer other than 200 tells."""
    try:
        told = json.loads(body)
        return RowError(str(told["error_code"]), str(told["message"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return RowError("INTERNAL_ERROR", f"The answer was status {status} without a message.")
