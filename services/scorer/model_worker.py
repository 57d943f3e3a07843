"""The untrusted half of a replica: runs in the model's own environment, with the standard library and the model's own mlflow.

Started as a script: `python model_worker.py <socket fd> <model folder> <lanes>`. Over the inherited socket it says `ready` or
`failed` once, then answers `score` frames, several at a time. It ends when the socket does. Nothing of Penstock is importable
here, because the model's own code may have modules of the same names.

A frame is two unsigned 32-bit lengths (network order), a JSON header and a body. The host imports the codec from here.
"""

import json
import os
import queue
import socket
import struct
import sys
import threading
import traceback

LENGTHS = struct.Struct("!II")
JSON_TYPE = "application/json"
MODEL_RAISED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is compatible "
    "with the model for inference."
)


def encode_frame(header: dict, body: bytes = b"") -> bytes:  # type: ignore[type-arg]  # Python 3.8 must read this file
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def client_request_id_of(body: bytes):  # type: ignore[no-untyped-def]
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

    def send(header: dict, body: bytes = b"") -> None:  # type: ignore[type-arg]
        with sending:
            channel.sendall(encode_frame(header, body))

    try:
        evaluate = _load(folder)
    except BaseException as error:  # noqa: BLE001  whatever stops the load is told to the host
        traceback.print_exc()
        send({"event": "failed", "message": f"{type(error).__name__}: {error}"})
        return
    work = queue.SimpleQueue()  # type: ignore[var-annotated]
    for number in range(lanes):
        threading.Thread(target=_lane, args=(work, evaluate, send), name=f"lane-{number}", daemon=True).start()
    send({"event": "ready"})
    with channel.makefile("rb") as frames:
        while True:
            lengths = frames.read(LENGTHS.size)
            if len(lengths) < LENGTHS.size:
                os._exit(0)  # the host is gone: lanes that still compute have nobody to answer
            head, body = LENGTHS.unpack(lengths)
            work.put((json.loads(frames.read(head)), frames.read(body)))


def _leave_own_folder() -> None:
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own]


def _die_with_parent() -> None:
    """EOF cannot be seen by a process whose model holds the interpreter lock; the kernel's signal can (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _load(folder: str):  # type: ignore[no-untyped-def]
    """Load and warm the model; return a function from (body, content type) to (status, content type, text)."""
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"  # as mlflow's own scoring server says it
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    score = _mlflows_own(mlflow.pyfunc.load_model(folder))  # type: ignore[no-untyped-call]

    def evaluate(body: bytes, content_type: str):  # type: ignore[no-untyped-def]
        try:
            status, mimetype, text = score(body, content_type)
        except MlflowException as error:
            return error.get_http_status_code(), JSON_TYPE, error.serialize_as_json()
        except BaseException as error:  # noqa: BLE001  sys.exit() in a model is its own failure, too
            return _unexpected(error)
        if mimetype != JSON_TYPE:
            code = "UNSUPPORTED_MEDIA_TYPE" if status == 415 else "BAD_REQUEST"
            return status, JSON_TYPE, error_body(code, text)
        return status, JSON_TYPE, strict_json(text)

    _warm(evaluate, folder)
    return evaluate


def _mlflows_own(model):  # type: ignore[no-untyped-def]
    """The scoring of this environment's mlflow: a function from (body, content type) to (status, media type, text)."""
    from mlflow.pyfunc import scoring_server
    from mlflow.version import VERSION

    schema = model.metadata.get_input_schema()

    def by_function(body: bytes, content_type: str):  # type: ignore[no-untyped-def]
        answer = scoring_server.invocations(body, content_type, model, schema)
        return answer.status, answer.mimetype, answer.response

    def by_route(body: bytes, content_type: str):  # type: ignore[no-untyped-def]
        answer = app.test_client().post("/invocations", data=body, content_type=content_type)
        return answer.status_code, answer.mimetype, answer.get_data(as_text=True)

    if [int(part) for part in VERSION.split(".")[:2]] >= [2, 21]:
        return by_function
    app = scoring_server.init(model)  # until 2.20 a route of Flask's decodes the body; until 2.5 there is no function beside it
    app.config["PROPAGATE_EXCEPTIONS"] = True  # instead of Flask's own page with status 500
    return by_route


def _warm(evaluate, folder: str) -> None:  # type: ignore[no-untyped-def]
    """Score the model's own example once. A failing example only warns: callers may well send something better."""
    path = os.path.join(folder, "serving_input_example.json")
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        status, _, text = evaluate(file.read(), JSON_TYPE)
    if status != 200:
        print(f"warm-up with the model's input example failed with status {status}: {text[:2000]}", flush=True)


def _unexpected(error: BaseException):  # type: ignore[no-untyped-def]
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name.endswith("predictions_to_json") for frame in frames):
        message = f"The model's output cannot be written as JSON: {type(error).__name__}: {error}"
        return 500, JSON_TYPE, error_body("INTERNAL_ERROR", message)
    if isinstance(error, Exception):  # MLflow wraps what a model raises: this one comes from reading the body
        return 400, JSON_TYPE, error_body("BAD_REQUEST", f"Invalid input. The body cannot be read: {type(error).__name__}: {error}")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return 400, JSON_TYPE, error_body("BAD_REQUEST", MODEL_RAISED, stack_trace=trace)


def _lane(work, evaluate, send) -> None:  # type: ignore[no-untyped-def]
    while True:
        header, body = work.get()
        try:
            status, content_type, text = evaluate(body, header["content_type"])
            answer = text.encode()
        except Exception as error:  # noqa: BLE001  a lane must outlive what it evaluates
            status, content_type = 500, JSON_TYPE
            answer = error_body("INTERNAL_ERROR", f"The model's answer cannot be sent: {error}").encode(errors="replace")
        mine = client_request_id_of(body) if header["content_type"].startswith(JSON_TYPE) else None
        send({"id": header["id"], "status": status, "content_type": content_type, "client_request_id": mine}, answer)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
