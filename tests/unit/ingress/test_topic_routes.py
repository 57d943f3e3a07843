"""Public topics over HTTP and without a broker: switched on and off by who manages the endpoint, and described as AsyncAPI."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, call

import jsonschema_rs
import pytest

from services.ingress.asyncapi import asyncapi_document
from services.ingress.management import ENDPOINTS
from services.shared.control_events import PrincipalKind, TopicsSwitched
from services.shared.endpoints import PublicTopics
from services.shared.envelope import ScoringReply
from services.shared.results import result_record
from services.shared.settings import KafkaSettings
from services.shared.topics import requests_topic
from tests.unit.ingress.submissions.test_submitted import OWN, record, request_of
from tests.unit.ingress.test_permissions import called_by
from tests.unit.shared.control_log import config, created, fold, ready

# Of the npm package @asyncapi/specs 6.11.1 (Apache-2.0): 3.0.0-without-$id.json without descriptions, titles and examples.
SCHEMA = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text())
SERVING = fold(created(config("1")), ready("a"))
DOCUMENT = asyncapi_document(SERVING.endpoints["churn"], "127.0.0.1:19092")
OFF = {
    "enabled": False,
    "requests_topic": "penstock.endpoint.churn.requests",
    "results_topic": "penstock.endpoint.churn.results",
    "bootstrap_servers": "",
}


async def test_topics_are_off_until_a_manager_switches_them_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = AsyncMock()
    monkeypatch.setattr("services.ingress.topics.make_public_topics", made)
    async with called_by("manager", tmp_path) as http:
        path = f"{ENDPOINTS}/churn/topics"
        assert (await http.get(path)).json() == OFF
        on = OFF | {"enabled": True, "requester": "manager"}
        assert (await http.put(path, json={"enabled": True})).json() == on
        assert (await http.get(path)).json() == on
        assert made.await_args_list == [call("churn", KafkaSettings())]
        assert (await http.put(path, json={"enabled": False})).json() == OFF


async def test_topics_that_cannot_be_made_are_not_on(tmp_path: Path) -> None:
    async with called_by("manager", tmp_path) as http:
        path = f"{ENDPOINTS}/churn/topics"
        refused = await http.put(path, json={"enabled": True})
        assert (refused.status_code, refused.json()["message"]) == (503, "Kafka did not make the topics.")
        assert (await http.get(path)).json() == OFF


@pytest.mark.parametrize("body", [{}, {"enabled": "on"}, {"enabled": 1}])
async def test_a_body_that_does_not_say_which_is_refused(body: dict[str, Any], tmp_path: Path) -> None:
    async with called_by("manager", tmp_path) as http:
        assert (await http.put(f"{ENDPOINTS}/churn/topics", json=body)).status_code == 400


def test_the_fold_remembers_whose_requests_they_are() -> None:
    event = TopicsSwitched(endpoint_id="e1", enabled=True, requester="robot", requester_kind=PrincipalKind.SERVICE_PRINCIPAL, at_ms=9)
    on = fold(event, state=SERVING)
    assert on.endpoints["churn"].topics == PublicTopics("robot", PrincipalKind.SERVICE_PRINCIPAL)
    off = fold(event.model_copy(update={"event_id": "later", "enabled": False}), state=on)
    assert off.endpoints["churn"].topics is None


def test_the_document_is_asyncapi_3() -> None:
    faults = [f"{fault.instance_path}: {fault.message}" for fault in jsonschema_rs.Draft7Validator(SCHEMA).iter_errors(DOCUMENT)]
    assert not faults
    without = {key: value for key, value in DOCUMENT.items() if key != "info"}
    assert not jsonschema_rs.Draft7Validator(SCHEMA).is_valid(without), "the schema says no to what is none"


def test_each_reference_of_the_document_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [reference for inner in value.values() for reference in references(inner)]
    return [reference for inner in value for reference in references(inner)] if isinstance(value, list) else []


def test_what_is_sent_and_answered_is_as_the_document_says() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert DOCUMENT["channels"]["requests"]["address"] == requests_topic("churn")
    sent = record(OWN, ("content-type", b"text/csv"), ("penstock-deadline-ms", b"1770724800123"))
    headers = {name: value.decode() for name, value in sent.headers}
    assert headers.keys() <= messages["request"]["headers"]["properties"].keys()
    jsonschema_rs.validate(messages["request"]["headers"], headers)
    answer = result_record(request_of(OWN), ScoringReply("r", 200, "application/json", b"{}"), 3, 1_770_724_805_007)
    told = {name: (value or b"").decode() for name, value in answer.headers}
    assert told.keys() <= messages["result"]["headers"]["properties"].keys()
    jsonschema_rs.validate(messages["result"]["headers"], told)
