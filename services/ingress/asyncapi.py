"""An endpoint's public topics as an AsyncAPI 3 document, for people and generators of clients. Pure."""

from typing import Any

from services.ingress.submissions.submitted import CONTENT_TYPE, DEADLINE, JSON, MAX_HEADER_BYTES, OWN_ID, TRACEPARENT
from services.shared.endpoints import Endpoint
from services.shared.results import RESULT_TYPE
from services.shared.topics import PUBLIC_PARTITIONS, requests_topic, results_topic

_DIGITS = "^[0-9]+$"


def asyncapi_document(endpoint: Endpoint, bootstrap: str) -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Bulk scoring by endpoint '{endpoint.name}'",
            "version": str(endpoint.latest_version),
            "description": "Produce requests to one topic, and consume what came of them from the other. A result may come twice, with "
            "the same ce_id; the first one counts.",
        },
        "defaultContentType": JSON,
        "servers": {"kafka": {"host": bootstrap, "protocol": "kafka"}},
        "channels": {
            "requests": _channel(requests_topic(endpoint.name), "request"),
            "results": _channel(results_topic(endpoint.name), "result"),
        },
        "operations": {
            "score": {
                "action": "receive",
                "summary": "Penstock scores each record by the traffic split, after what is asked over HTTP.",
                "channel": {"$ref": "#/channels/requests"},
                "messages": [{"$ref": "#/channels/requests/messages/request"}],
                "reply": {"channel": {"$ref": "#/channels/results"}, "messages": [{"$ref": "#/channels/results/messages/result"}]},
            }
        },
        "components": {"messages": {"request": _REQUEST, "result": _RESULT}},
    }


def _channel(topic: str, message: str) -> dict[str, Any]:
    return {
        "address": topic,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic, "partitions": PUBLIC_PARTITIONS, "bindingVersion": "0.5.0"}},
    }


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"type": "string", "description": description} | schema


_KEY = {"kafka": {"key": {"type": "string", "description": "Yours: the result has it, too."}, "bindingVersion": "0.5.0"}}
_REQUEST: dict[str, Any] = {
    "summary": "What an invocation over HTTP has as its body: JSON in any of the scoring forms, or CSV.",
    "headers": {
        "type": "object",
        "properties": {
            CONTENT_TYPE: _header("Of the body.", default=JSON, examples=[JSON, "text/csv"]),
            OWN_ID: _header(
                "Your id of the request. What is sent again under it is the same request: one row. Without one, each record is a request.",
                maxLength=MAX_HEADER_BYTES,
            ),
            DEADLINE: _header(
                "Until when an answer counts, in milliseconds since 1970; a day after its arrival if absent.", pattern=_DIGITS
            ),
            TRACEPARENT: _header("W3C trace context."),
        },
    },
    "payload": {"description": "Rows, as the model's signature says: `GET …/openapi` of the endpoint describes them."},
    "bindings": _KEY,
}
_RESULT: dict[str, Any] = {
    "summary": "The body an invocation over HTTP is answered with, or a refusal.",
    "contentType": JSON,
    "headers": {
        "type": "object",
        "properties": {
            "ce_specversion": _header("CloudEvents, in Kafka's binary mode.", const="1.0"),
            "ce_id": _header(
                "The request's id in the inference table. The same request may have two results, with the same id.", format="uuid"
            ),
            "ce_type": _header("What this is.", const=RESULT_TYPE),
            "ce_source": _header("The endpoint.", format="uri-reference"),
            "ce_time": _header("When the answer was made.", format="date-time"),
            CONTENT_TYPE: _header("Of the body."),
            "penstock-status": _header("As of an invocation over HTTP; 413 for a body that is too long.", pattern="^[1-5][0-9]{2}$"),
            "penstock-served-entity": _header("Who answered; absent where nobody was asked."),
            "penstock-submission": _header("Your ce_id, or `partition/offset` of the record."),
            "penstock-accepted-ms": _header("When the record arrived, in milliseconds since 1970.", pattern=_DIGITS),
            "penstock-execution-ms": _header("What the evaluation took, or its share of one that others were in.", pattern=_DIGITS),
            TRACEPARENT: _header("That of the request."),
        },
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", CONTENT_TYPE, "penstock-status", "penstock-submission"],
    },
    "payload": {"type": "object"},
    "bindings": _KEY,
}
