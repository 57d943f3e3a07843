import json
from typing import Any

import pytest

from services.ingress.submissions.predictions import NotByRow, RowError, read_predictions, row_error


@pytest.mark.parametrize(
    ("answer", "rows", "predictions"),
    [
        pytest.param({"predictions": [1, 2]}, 2, [1, 2], id="a number a row"),
        pytest.param({"predictions": [{"a": 1}, {"a": 2}]}, 2, [{"a": 1}, {"a": 2}], id="a record a row"),
        pytest.param({"predictions": {"a": [1, 2], "b": [3, 4]}}, 2, [{"a": 1, "b": 3}, {"a": 2, "b": 4}], id="columns, a value a row"),
        pytest.param({"predictions": "yes"}, 1, ["yes"], id="one answer to one row"),
        pytest.param({"predictions": [[1, 2, 3]]}, 1, [[1, 2, 3]], id="a list for one row"),
        pytest.param({"predictions": [1, 2, 3]}, 1, [[1, 2, 3]], id="many answers to one row"),
        pytest.param({"choices": []}, 1, [{"choices": []}], id="an answer in another form, to one row"),
    ],
)
def test_each_row_gets_its_own(answer: Any, rows: int, predictions: list[Any]) -> None:
    assert read_predictions(json.dumps(answer).encode(), rows) == predictions


@pytest.mark.parametrize(
    ("answer", "rows", "message"),
    [
        pytest.param(b'{"predictions": [1]}', 2, "The model answered 2 rows with 1 predictions.", id="too few"),
        pytest.param(b'{"predictions": [1, 2, 3]}', 2, "The model answered 2 rows with 3 predictions.", id="too many"),
        pytest.param(b'{"predictions": {"a": [1]}}', 2, "The model answered 2 rows with one prediction.", id="columns too short"),
        pytest.param(b'{"predictions": 7}', 2, "The model answered 2 rows with one prediction.", id="one for all"),
        pytest.param(b"<html>", 1, "The answer of the model is no JSON.", id="no JSON"),
    ],
)
def test_an_answer_that_is_not_by_rows_is_none(answer: bytes, rows: int, message: str) -> None:
    with pytest.raises(NotByRow, match=message):
        read_predictions(answer, rows)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b'{"error_code": "BAD_REQUEST", "message": "no"}', RowError("BAD_REQUEST", "no"), id="the envelope"),
        pytest.param(b"oops", RowError("INTERNAL_ERROR", "The answer was status 500 without a message."), id="anything else"),
        pytest.param(b"[]", RowError("INTERNAL_ERROR", "The answer was status 500 without a message."), id="another JSON"),
    ],
)
def test_an_error_is_told_in_the_words_of_the_answer(body: bytes, error: RowError) -> None:
    assert row_error(500, body) == error
