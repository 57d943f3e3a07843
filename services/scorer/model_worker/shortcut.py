"""The short way to MLflow's own answer: the frame is built here and handed straight to the model, for one body or for several.

MLflow parses a body, makes a frame, casts it, checks it and casts it again: some 4 ms, where the model takes one, whether for one
row or for sixty. Used only where `proof.py` has seen that frames and answers are the same. What raises, or comes out in another
type than one request's does, is left out: it is scored alone, the long way, and gets MLflow's words.
"""

import copy
import json
from io import StringIO

import numpy
import pandas
from mlflow.pyfunc.scoring_server import predictions_to_json

from .mlflow_scoring import strict_json
from .rows import rows_of

MOST_ROWS = 1000  # of one evaluation; a body with more goes alone


class Shortcut:
    """`tests` are those of `rows.value_tests`; `frame` is one that MLflow made of such rows, `params` what it passed with it."""

    def __init__(self, model, tests, frame, params) -> None:
        self.tests = tests
        self.row_wise = False
        self.waits = False  # whether an evaluation is spent waiting rather than computing
        self.first_s = self.more_s = 0.0  # seconds that one row took, and each more beside it
        self.kinds = set()  # of predictions for one request alone
        self.has_said_whole = False  # whether it was seen to write a whole number as a float
        self._columns, self._dtypes = frame.columns, list(frame.dtypes)
        self._predict = _unchecked(model, params)

    def score(self, members):
        """Yield (indices, texts, client ids, rows) of those that were scored together. `members` are (content type, body)."""
        parsed = {i: found for i, member in enumerate(members) for found in [rows_of(member[0], member[1], self.tests)] if found}
        for group in self._groups(parsed):
            rows = [parsed[i][0] for i in group]
            texts = self._texts(rows)
            if texts is not None:
                yield group, texts, [parsed[i][1] for i in group], sum(map(len, rows))

    def frame(self, rows):
        """The frame that MLflow makes of them."""
        first = self._dtypes[0]
        if isinstance(first, numpy.dtype) and all(dtype == first for dtype in self._dtypes):
            return pandas.DataFrame(numpy.array(rows, dtype=first, order="F"), columns=self._columns, copy=False)
        columns = (pandas.Series(column, dtype=dtype) for column, dtype in zip(zip(*rows), self._dtypes))
        return pandas.DataFrame(dict(enumerate(columns))).set_axis(self._columns, axis=1)

    def predict(self, rows):
        return self._predict(self.frame(rows))

    def _groups(self, parsed):
        group, count = [], 0
        for index, (rows, _) in parsed.items():
            if group and (not self.row_wise or count + len(rows) > MOST_ROWS):
                yield group
                group, count = [], 0
            group.append(index)
            count += len(rows)
        if group:
            yield group

    def _texts(self, members):
        """A text for each member's rows, or None: not these together."""
        try:
            predictions = self.predict([row for rows in members for row in rows])
            if len(members) == 1:
                return [text_of(predictions)]
            if {kind_of(predictions)} != self.kinds or len(predictions) != sum(map(len, members)):
                return None
            spans = list(_spans(map(len, members)))
            texts = texts_of(predictions, spans)
            for index in () if self.has_said_whole else whole_float_spans(predictions, spans):
                texts[index] = self._text_alone(members[index])
            return texts
        except BaseException:  # noqa: BLE001  alone, each gets its own error, with the words MLflow has for it
            return None

    def _text_alone(self, rows):
        """A whole number may be a float only because of its neighbours: until one was seen alone, it is asked for alone."""
        alone = self.predict(rows)
        self.learn(alone)
        return text_of(alone)

    def learn(self, alone) -> None:
        """`alone` is the model's prediction for one request. A model of several kinds has no batch: theirs can be only one."""
        self.kinds.add(kind_of(alone))
        self.has_said_whole = self.has_said_whole or bool(whole_float_spans(alone, [(0, len(alone))]))


def _unchecked(model, params):
    """`model.predict` without the schema: all that MLflow does around a prediction stays."""
    quick = copy.copy(model)
    if params is None:
        quick._predict = lambda data, _=None: model._predict_fn(data)
    else:
        quick._predict = lambda data, _=None: model._predict_fn(data, **copy.deepcopy(params))
    return quick.predict


def kind_of(predictions):
    """What must not change when rows are put together: container, types and width; None for what cannot be split by rows."""
    if type(predictions) is list:
        return ("list",)
    if type(predictions) is numpy.ndarray and predictions.ndim:
        return "array", predictions.dtype.kind if predictions.dtype.kind in "US" else str(predictions.dtype), predictions.shape[1:]
    if type(predictions) is pandas.Series:
        return "series", str(predictions.dtype), predictions.name
    if type(predictions) is pandas.DataFrame:
        return "frame", tuple(map(str, predictions.dtypes)), tuple(predictions.columns)
    return None


def whole_float_spans(predictions, spans):
    """Indices of the spans in which a column of floats has nothing but whole numbers: alone, a model may well say integers."""
    is_frame = type(predictions) is pandas.DataFrame
    columns = [predictions.iloc[:, i] for i in range(predictions.shape[1])] if is_frame else [predictions]
    found = set()
    for column in columns:
        if getattr(getattr(column, "dtype", None), "kind", "") == "f":
            values = numpy.asarray(column).reshape(len(column), -1)
            whole = (numpy.floor(values) == values).all(axis=1)
            found.update(i for i, (start, end) in enumerate(spans) if whole[start:end].all())
    return found


def text_of(predictions) -> str:
    if _is_plain_array(predictions):
        return strict_json(json.dumps({"predictions": predictions.tolist()}))
    return strict_json(_mlflows_text(predictions))


def texts_of(predictions, spans):
    """The text of each span of rows, as `text_of` would write it alone."""
    if _is_plain_array(predictions):
        values = predictions.tolist()
        return [strict_json(json.dumps({"predictions": values[start:end]})) for start, end in spans]
    values = json.loads(_mlflows_text(predictions), parse_constant=lambda token: None)["predictions"]
    return [json.dumps({"predictions": values[start:end]}) for start, end in spans]


def _mlflows_text(predictions) -> str:
    text = StringIO()
    predictions_to_json(predictions, text)
    return text.getvalue()


def _is_plain_array(predictions) -> bool:
    return type(predictions) is numpy.ndarray and predictions.dtype.kind in "biufU"


def _spans(counts):
    start = 0
    for count in counts:
        yield start, start + count
        start += count
