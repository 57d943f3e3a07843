"""The long way: MLflow's own scoring function of this environment, whose answers are the measure of all others."""

import json
import traceback

from .frames import JSON_TYPE

MODEL_RAISED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is compatible "
    "with the model for inference."
)


def mlflows_own(model):
    """A function from (body, content type) to (status, content type, text), and whether MLflow has one to take apart."""
    from mlflow.exceptions import MlflowException
    from mlflow.version import VERSION

    has_function = [int(part) for part in VERSION.split(".")[:2]] >= [2, 21]
    score = _by_function(model) if has_function else _by_route(model)

    def evaluate(body: bytes, content_type: str):
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

    return evaluate, has_function


def _by_function(model):
    from mlflow.pyfunc import scoring_server

    schema = model.metadata.get_input_schema()

    def score(body: bytes, content_type: str):
        answer = scoring_server.invocations(body, content_type, model, schema)
        return answer.status, answer.mimetype, answer.response

    return score


def _by_route(model):
    """Until 2.20 a route of Flask's decodes the body; until 2.5 there is no function beside it."""
    from mlflow.pyfunc import scoring_server

    app = scoring_server.init(model)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # instead of Flask's own page with status 500

    def score(body: bytes, content_type: str):
        answer = app.test_client().post("/invocations", data=body, content_type=content_type)
        return answer.status_code, answer.mimetype, answer.get_data(as_text=True)

    return score


def strict_json(text: str) -> str:
    """MLflow writes NaN and Infinity as bare tokens, which no strict parser reads: they become null."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    return json.dumps(json.loads(text, parse_constant=lambda token: None))


def error_body(code: str, message: str, **more: str) -> str:
    return json.dumps({"error_code": code, "message": message, "details": [], **more})


def _unexpected(error: BaseException):
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name.endswith("predictions_to_json") for frame in frames):
        message = f"The model's output cannot be written as JSON: {type(error).__name__}: {error}"
        return 500, JSON_TYPE, error_body("INTERNAL_ERROR", message)
    if isinstance(error, Exception):  # MLflow wraps what a model raises: this one comes from reading the body
        return 400, JSON_TYPE, error_body("BAD_REQUEST", f"Invalid input. The body cannot be read: {type(error).__name__}: {error}")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return 400, JSON_TYPE, error_body("BAD_REQUEST", MODEL_RAISED, stack_trace=trace)
