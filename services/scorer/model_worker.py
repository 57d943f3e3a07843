"""The untrusted half of a replica: runs in the model's own environment, with the standard library and the model's own mlflow.

Started as a script: `python model_worker.py <socket fd> <model folder> <lanes>`. Over the inherited socket it says `ready` or
`failed` once, then answers batches, several at a time. It ends when the socket does. Nothing of Penstock is importable
here, because the model's own code may have modules of the same names; so it is one file, although it is a long one.

A frame is two unsigned 32-bit lengths (network order), a JSON header and a body. The host imports the codec from here. A batch is
a list of members in the header, their bytes one after the other in the body; its answers come in one such frame, or in several.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,var-annotated,type-arg"
# Python 3.8 must read this file, and it is all about other people's types.

import json
import os
import queue
import random
import socket
import struct
import sys
import threading
import time
import traceback
from io import StringIO

LENGTHS = struct.Struct("!II")
JSON_TYPE = "application/json"
MODEL_RAISED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is compatible "
    "with the model for inference."
)

PLAIN_JSON = (JSON_TYPE, JSON_TYPE + "; charset=utf-8", JSON_TYPE + ";charset=utf-8")
MOST_ROWS = 1000  # of one evaluation; a member with more goes alone
SHOWN_BY = 16  # rows that must come out the same alone and together: rounding that differs is then hardly ever missed
LONGEST_SHOWN_S = 0.5  # an evaluation that takes longer gains little from company
SWITCH = "PENSTOCK_MICRO_BATCHING"  # an environment variable of the served entity: on (unchecked), off, else as shown at load
EXACT = 2**53  # whole numbers up to here are the same as doubles


def encode_frame(header: dict, body: bytes = b"") -> bytes:
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def client_request_id_of(body: bytes):
    """The caller's own id: a top-level string of a JSON object, else None."""
    if b"client_request_id" not in body:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = found.get("client_request_id") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def strict_json(text: str) -> str:
    """MLflow writes NaN and Infinity as bare tokens, which no strict parser reads: they become null."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    return json.dumps(json.loads(text, parse_constant=lambda token: None))


def error_body(code: str, message: str, **more: str) -> str:
    return json.dumps({"error_code": code, "message": message, "details": [], **more})


def main(descriptor: int, folder: str, lanes: int) -> None:
    _leave_own_folder()
    _die_with_parent()
    channel = socket.socket(fileno=descriptor)
    sending = threading.Lock()

    def send(header: dict, body: bytes = b"") -> None:
        with sending:
            channel.sendall(encode_frame(header, body))

    try:
        evaluate, together, why = _load(folder)
    except BaseException as error:  # noqa: BLE001  whatever stops the load is told to the host
        traceback.print_exc()
        send({"event": "failed", "message": f"{type(error).__name__}: {error}"})
        return
    work = queue.SimpleQueue()
    for number in range(lanes):
        threading.Thread(target=_lane, args=(work, evaluate, together, send), name=f"lane-{number}", daemon=True).start()
    send({"event": "ready", "row_wise": together is not None, "why": why})
    with channel.makefile("rb") as frames:
        while True:
            lengths = frames.read(LENGTHS.size)
            if len(lengths) < LENGTHS.size:
                os._exit(0)  # the host is gone: lanes that still compute have nobody to answer
            head, body = LENGTHS.unpack(lengths)
            members = json.loads(frames.read(head))["members"]
            bodies = frames.read(body)
            work.put(list(_with_bodies(members, bodies)))


def _with_bodies(members, bodies):
    start = 0
    for member in members:
        yield member, bodies[start : start + member["size"]]
        start += member["size"]


def _leave_own_folder() -> None:
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own]


def _die_with_parent() -> None:
    """EOF cannot be seen by a process whose model holds the interpreter lock; the kernel's signal can (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _load(folder: str):
    """Load and warm the model.

    Returns a function from (body, content type) to (status, content type, text), one that scores several at once (None: not this
    model), and the reason for that.
    """
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"  # as mlflow's own scoring server says it
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(folder)
    schema = model.metadata.get_input_schema()

    def evaluate(body: bytes, content_type: str):
        try:
            answer = scoring_server.invocations(body, content_type, model, schema)
        except MlflowException as error:
            return error.get_http_status_code(), JSON_TYPE, error.serialize_as_json()
        except BaseException as error:  # noqa: BLE001  sys.exit() in a model is its own failure, too
            return _unexpected(error)
        if answer.mimetype != JSON_TYPE:
            code = "UNSUPPORTED_MEDIA_TYPE" if answer.status == 415 else "BAD_REQUEST"
            return answer.status, JSON_TYPE, error_body(code, answer.response)
        return answer.status, JSON_TYPE, strict_json(answer.response)

    _warm(evaluate, folder)
    together, why = _show_row_wise(model, schema, evaluate, folder)
    return evaluate, together, why


def _warm(evaluate, folder: str) -> None:
    """Score the model's own example once. A failing example only warns: callers may well send something better."""
    path = os.path.join(folder, "serving_input_example.json")
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        status, _, text = evaluate(file.read(), JSON_TYPE)
    if status != 200:
        print(f"warm-up with the model's input example failed with status {status}: {text[:2000]}", flush=True)


def _unexpected(error: BaseException):
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name.endswith("predictions_to_json") for frame in frames):
        message = f"The model's output cannot be written as JSON: {type(error).__name__}: {error}"
        return 500, JSON_TYPE, error_body("INTERNAL_ERROR", message)
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return 400, JSON_TYPE, error_body("BAD_REQUEST", MODEL_RAISED, stack_trace=trace)


def allowed_values(schema):
    """Column name → test of a JSON value, for a signature in which each row can be parsed among others; else None and the reason.

    A value passes when its column gets the same type from pandas, and it the same value from MLflow's cast, whatever else is in
    the column. Nulls, NaN, dates and nested values do not: what they become depends on their neighbours.
    """
    if schema is None or not schema.has_input_names() or schema.is_tensor_spec():
        return None, "the model has no signature with named columns"
    tests = {}
    for column in schema.inputs:
        test = _VALUE_TESTS.get(getattr(column.type, "name", ""))
        if test is None:
            return None, f"its signature has a column of type {column.type}"
        tests[column.name] = test
    return tests, ""


def _is_number(value) -> bool:
    return (type(value) is float and abs(value) < float("inf")) or (type(value) is int and abs(value) <= EXACT)


_VALUE_TESTS = {
    "double": _is_number,
    "float": _is_number,
    "integer": lambda value: type(value) is int and -(2**31) <= value < 2**31,
    "long": lambda value: type(value) is int and -(2**63) <= value < 2**63,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
}


def rows_of(body: bytes, tests):
    """The rows of a body as lists in the signature's order; None unless they may stand among others' rows (`allowed_values`)."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    found.pop("client_request_id", None)
    if len(found) != 1:
        return None
    form, data = found.popitem()
    if form == "dataframe_split":
        rows = _rows_of_split(data, list(tests))
    elif form == "dataframe_records":
        rows = _rows_of_records(data, list(tests))
    else:
        return None
    if not rows or not all(test(row[i]) for i, test in enumerate(tests.values()) for row in rows):
        return None
    return rows


def _rows_of_split(data, names):
    if not isinstance(data, dict) or set(data) != {"columns", "data"}:
        return None
    rows = data["data"]
    if data["columns"] != names or not isinstance(rows, list):
        return None
    return rows if all(isinstance(row, list) and len(row) == len(names) for row in rows) else None


def _rows_of_records(data, names):
    if not isinstance(data, list) or not all(isinstance(row, dict) and list(row) == names for row in data):
        return None
    return [list(row.values()) for row in data]


def kind_of(predictions):
    """What must not change when rows are put together: container, types and width; None for what cannot be split by rows."""
    import numpy
    import pandas

    if type(predictions) is list:
        return ("list",)
    if type(predictions) is numpy.ndarray and predictions.ndim:
        return "array", predictions.dtype.kind if predictions.dtype.kind in "US" else str(predictions.dtype), predictions.shape[1:]
    if type(predictions) is pandas.Series:
        return "series", str(predictions.dtype), predictions.name
    if type(predictions) is pandas.DataFrame:
        return "frame", tuple(map(str, predictions.dtypes)), tuple(predictions.columns)
    return None


def split_back(predictions, counts):
    """The predictions of each member, which had so many rows; None when there is not one for every row."""
    if kind_of(predictions) is None or len(predictions) != sum(counts):
        return None
    rows = getattr(predictions, "iloc", predictions)
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [rows[end - count : end] for end, count in zip(ends, counts)]  # noqa: B905  strict is not in Python 3.8


class Together:
    """Scores members in one evaluation. Leaves out whoever may not, or did not, come out as alone: those are scored alone."""

    def __init__(self, model, schema, tests) -> None:
        self._model, self._schema, self._tests = model, schema, tests
        self._names = list(tests)
        self.kind = None  # of a prediction for one request alone

    def learn(self, rows) -> None:
        self.kind = kind_of(self._predict(rows))

    def score(self, members):
        """Member's index → (text, number of members it was scored with). `members` are (content type, body)."""
        answers = {}
        for group in self._groups(members):
            if len(group) > 1:
                answers.update(self._score_group(group))
        return answers

    def _groups(self, members):
        group, count = [], 0
        for index, (content_type, body) in enumerate(members):
            rows = rows_of(body, self._tests) if content_type in PLAIN_JSON else None
            if rows is None or len(rows) > MOST_ROWS:
                continue
            if count + len(rows) > MOST_ROWS:
                yield group
                group, count = [], 0
            group.append((index, rows))
            count += len(rows)
        yield group

    def _score_group(self, group):
        from mlflow.pyfunc.scoring_server import predictions_to_json

        try:
            predictions = self._predict([row for _, rows in group for row in rows])
            parts = split_back(predictions, [len(rows) for _, rows in group])
            if parts is None or kind_of(predictions) != self.kind:
                return {}
            answers = {}
            for (index, _), part in zip(group, parts):  # noqa: B905
                text = StringIO()
                predictions_to_json(part, text)
                answers[index] = strict_json(text.getvalue()), len(group)
            return answers
        except BaseException:  # noqa: BLE001  alone, each gets its own error, with the words MLflow has for it
            return {}

    def _predict(self, rows):
        from mlflow.pyfunc.scoring_server import infer_and_parse_data

        frame = infer_and_parse_data({"dataframe_split": {"columns": self._names, "data": rows}}, self._schema)
        return self._model.predict(frame)


def _show_row_wise(model, schema, evaluate, folder):
    """Try whether rows like the input example's come out byte for byte the same in company as alone."""
    switch = os.environ.get(SWITCH, "").lower()
    if switch == "off":
        return None, f"{SWITCH} is off"
    tests, why = allowed_values(schema)
    if tests is None:
        return None, why
    if getattr(model.metadata, "_is_signature_from_type_hint", bool)():
        return None, "its signature comes from type hints"
    example = _example_rows(folder, tests)
    if not example:
        return None, "it has no input example whose values are plain and complete"
    together = Together(model, schema, tests)
    members = [_as_body(tests, row) for row in varied_rows(example, SHOWN_BY)]
    try:
        together.learn(rows_of(members[0][1], tests))
    except BaseException as error:  # noqa: BLE001  as in a lane
        return None, f"its input example fails: {error!r}"
    if switch == "on":
        return together, f"{SWITCH} is on"
    if len(set(members)) < SHOWN_BY // 2:
        return None, "its input example shows too few different rows"
    return (together, "rows come out the same") if _same(together, evaluate, members) else (None, "rows do not come out the same")


def _same(together, evaluate, members) -> bool:
    alone = []
    for content_type, body in members:
        started = time.perf_counter()
        status, _, text = evaluate(body, content_type)
        if status != 200 or time.perf_counter() - started > LONGEST_SHOWN_S:
            return False
        alone.append(text)
    for size in (2, 3, len(members)):
        found = together.score(members[:size])
        if [found[i][0] for i in sorted(found)] != alone[:size]:
            return False
    return True


def _example_rows(folder: str, tests):
    path = os.path.join(folder, "serving_input_example.json")
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return rows_of(file.read(), tests)


def varied_rows(example, count: int):
    """The example's rows, and more like them: floats by up to a half, all else another row's value. The same on every load."""
    chance = random.Random(0)
    rows = list(example[:count])
    while len(rows) < count:
        row = [chance.choice(example)[i] for i in range(len(example[0]))]
        rows.append([(v or 1.0) * chance.uniform(0.5, 1.5) if type(v) is float else v for v in row])
    return rows


def _as_body(tests, row):
    return JSON_TYPE, json.dumps({"dataframe_split": {"columns": list(tests), "data": [row]}}).encode()


def _lane(work, evaluate, together, send) -> None:
    while True:
        members = work.get()
        started = time.perf_counter()
        found = together.score([(m["content_type"], body) for m, body in members]) if together and len(members) > 1 else {}
        took_s = time.perf_counter() - started
        if found:
            _send_answers(send, [(*members[i], 200, JSON_TYPE, text.encode(), took_s, n) for i, (text, n) in found.items()])
        for index, (member, body) in enumerate(members):
            if index not in found:
                _send_answers(send, [_alone(evaluate, member, body)])


def _alone(evaluate, member, body):
    started = time.perf_counter()
    try:
        status, content_type, text = evaluate(body, member["content_type"])
        answer = text.encode()
    except Exception as error:  # noqa: BLE001  a lane must outlive what it evaluates
        status, content_type = 500, JSON_TYPE
        answer = error_body("INTERNAL_ERROR", f"The model's answer cannot be sent: {error}").encode(errors="replace")
    return member, body, status, content_type, answer, time.perf_counter() - started, 1


def _send_answers(send, answers) -> None:
    heads = []
    for member, body, status, content_type, answer, took_s, together in answers:
        mine = client_request_id_of(body) if member["content_type"].startswith(JSON_TYPE) else None
        head = {"id": member["id"], "status": status, "content_type": content_type, "client_request_id": mine}
        heads.append({**head, "size": len(answer), "duration_s": took_s, "together": together})
    send({"answers": heads}, b"".join(answer for _, _, _, _, answer, _, _ in answers))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
