"""What clients see of an endpoint, step by step as databricks_surface §6 has it."""

import json
from typing import Any

import pytest

from services.ingress.endpoint_view import detailed, summary
from services.shared.control_events import ConfigSpec, EntitySpec, Route, TableConfig, UpdateCanceled
from services.shared.endpoints import ControlState
from services.shared.presence import PoolReport
from tests.unit.shared.control_log import config, created, failed, fold, ready, requested

CREATED = fold(created(config("1")))
SERVING = fold(ready("a"), state=CREATED)
CANCEL = UpdateCanceled(endpoint_id="e1", version=2, at_ms=88)
UPDATING = fold(requested(config("2", "3", shares=(80, 20)), 1, at_ms=77), state=SERVING)


def report(wanted: int = 1, ready: int = 1, failure: str = "", failed: bool = False) -> dict[str, PoolReport]:
    made = PoolReport(pool_id="e1-a-1", wanted=wanted, ready=ready, reason="", max_replicas=1, failure=failure, failed=failed, at_ms=1)
    return {"e1-a-1": made}


def view(state: ControlState, reports: dict[str, PoolReport] | None = None) -> dict[str, Any]:
    seen = detailed(state.endpoints["churn"], reports or {})
    json.dumps(seen, allow_nan=False)
    return seen


def deployments(config_view: dict[str, Any]) -> list[tuple[str, str]]:
    return [(e["state"]["deployment"], e["state"]["deployment_state_message"]) for e in config_view["served_entities"]]


@pytest.mark.parametrize(
    ("state", "update", "is_ready", "active", "pending"),
    [
        pytest.param(CREATED, "IN_PROGRESS", "NOT_READY", None, 1, id="create accepted"),
        pytest.param(SERVING, "NOT_UPDATING", "READY", 1, None, id="create done"),
        pytest.param(UPDATING, "IN_PROGRESS", "READY", 1, 2, id="update accepted"),
        pytest.param(fold(ready("a", 2), ready("b", 2), state=UPDATING), "NOT_UPDATING", "READY", 2, None, id="update done"),
        pytest.param(fold(failed("b", 2), state=UPDATING), "UPDATE_FAILED", "READY", 1, 2, id="update fails"),
        pytest.param(
            fold(UpdateCanceled(endpoint_id="e1", version=2, at_ms=5), state=UPDATING), "UPDATE_CANCELED", "READY", 1, 2, id="canceled"
        ),
        pytest.param(fold(failed("a"), state=CREATED), "UPDATE_FAILED", "NOT_READY", None, 1, id="first create fails"),
    ],
)
def test_states_of_an_endpoint(state: ControlState, update: str, is_ready: str, active: int | None, pending: int | None) -> None:
    seen = view(state)
    assert seen["state"] == {"ready": is_ready, "config_update": update, "suspend": "NOT_SUSPENDED"}
    assert seen.get("config", {}).get("config_version") == active
    assert seen.get("pending_config", {}).get("config_version") == pending
    assert ("config" in seen, "pending_config" in seen) == (active is not None, pending is not None)


def test_both_generations_of_names_are_shown() -> None:
    shown = view(UPDATING)["pending_config"]
    assert [(e["name"], e["entity_name"], e["entity_version"]) for e in shown["served_entities"]] == [
        ("a", "churn", "2"),
        ("b", "churn", "3"),
    ]
    assert [(m["name"], m["model_name"], m["model_version"]) for m in shown["served_models"]] == [("a", "churn", "2"), ("b", "churn", "3")]
    assert shown["traffic_config"]["routes"] == [
        {"served_model_name": "a", "served_entity_name": "a", "traffic_percentage": 80},
        {"served_model_name": "b", "served_entity_name": "b", "traffic_percentage": 20},
    ]
    assert shown["start_time"] == 77


def test_messages_of_a_deployment() -> None:
    assert deployments(view(CREATED)["pending_config"]) == [("DEPLOYMENT_CREATING", "Creating resources for served entity.")]
    assert deployments(view(fold(failed("b", 2), state=UPDATING))["pending_config"]) == [
        ("DEPLOYMENT_ABORTED", "Served entity creation aborted because 'b' failed."),
        ("DEPLOYMENT_FAILED", "no such package"),
    ]


@pytest.mark.parametrize(
    ("reports", "shown"),
    [
        pytest.param({}, ("DEPLOYMENT_READY", ""), id="no report is no reason to doubt"),
        pytest.param(report(), ("DEPLOYMENT_READY", ""), id="running"),
        pytest.param(report(0, 0), ("DEPLOYMENT_READY", "Scaled to zero"), id="scaled to zero"),
        pytest.param(report(1, 0), ("DEPLOYMENT_READY", ""), id="waking"),
        pytest.param(report(1, 0, "killed"), ("DEPLOYMENT_RECOVERING", "killed"), id="a replica fails in a pool that serves"),
        pytest.param(report(1, 0, "killed", failed=True), ("DEPLOYMENT_FAILED", "killed"), id="and does not come back"),
    ],
)
def test_a_pool_in_service_is_shown_as_the_scaler_sees_it(reports: dict[str, PoolReport], shown: tuple[str, str]) -> None:
    assert deployments(view(SERVING, reports)["config"]) == [shown]


def test_a_report_says_nothing_about_a_pool_that_does_not_serve_yet() -> None:
    assert deployments(view(CREATED, report(0, 0))["pending_config"])[0][0] == "DEPLOYMENT_CREATING"


def test_values_of_environment_variables_are_never_shown() -> None:
    sealed = {"KEY": "sealed-value", "REFERENCE": "sealed-value"}
    references = {"REFERENCE": "{{secrets/s/k}}"}
    entity = EntitySpec(name="a", model_name="m", model_version="1", environment_vars=sealed, secret_references=references)
    state = fold(created(ConfigSpec(entities=(entity,), routes=(Route(entity="a", traffic_percentage=100),))))
    assert view(state)["pending_config"]["served_models"][0]["environment_vars"] == references | {"KEY": "[redacted]"}
    assert "sealed-value" not in json.dumps([view(state), summary(state.endpoints["churn"])])


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param({}, {"workload_size": "Small"}, id="no size is Small"),
        pytest.param({"workload_size": "Large"}, {"workload_size": "Large"}, id="a size as sent"),
        pytest.param(
            {"min_provisioned_concurrency": 0, "max_provisioned_concurrency": 8},
            {"min_provisioned_concurrency": 0, "max_provisioned_concurrency": 8},
            id="bounds as sent, without an invented size",
        ),
    ],
)
def test_sizes_are_echoed(sent: dict[str, Any], shown: dict[str, Any]) -> None:
    entity = EntitySpec(name="a", model_name="m", model_version="1", **sent)
    state = fold(created(ConfigSpec(entities=(entity,), routes=(Route(entity="a", traffic_percentage=100),))))
    seen = view(state)["pending_config"]["served_entities"][0]
    assert {k: v for k, v in seen.items() if "workload_size" in k or "concurrency" in k} == shown


def test_the_captured_table_is_named() -> None:
    table = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="churn")
    state = fold(created(config("1").model_copy(update={"auto_capture": table})))
    assert view(state)["pending_config"]["auto_capture_config"] == {
        "catalog_name": "main",
        "schema_name": "ml",
        "table_name_prefix": "churn",
        "enabled": True,
        "state": {"payload_table": {"name": "churn_payload", "status": "READY", "status_message": ""}},
    }


@pytest.mark.parametrize(
    ("faults", "status", "message"),
    [
        pytest.param({}, "READY", "", id="it is written"),
        pytest.param({"main.ml.churn_payload": "the table is gone"}, "FAILED", "the table is gone", id="it cannot be written"),
        pytest.param({"main.ml.other_payload": "the table is gone"}, "READY", "", id="another cannot"),
    ],
)
def test_the_table_of_the_gateway_says_how_it_is(faults: dict[str, str], status: str, message: str) -> None:
    table = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="churn").model_dump()
    state = fold(created(config("1")).model_copy(update={"gateway": {"inference_table_config": table}}))
    shown = detailed(state.endpoint("churn"), {}, faults=faults)["ai_gateway"]["inference_table_config"]
    assert shown == table | {"state": {"payload_table": {"name": "churn_payload", "status": status, "status_message": message}}}


def test_tags_description_and_ids_are_echoed() -> None:
    event = created(config("1")).model_copy(update={"tags": (("team", "ml"), ("beta", None)), "description": ""})
    seen = view(fold(event))
    assert seen["tags"] == [{"key": "team", "value": "ml"}, {"key": "beta"}]
    assert (seen["description"], seen["id"], seen["name"], seen["creator"], seen["permission_level"]) == (
        "",
        "e1",
        "churn",
        "ada",
        "CAN_MANAGE",
    )
    assert "ai_gateway" not in seen
    assert "email_notifications" not in seen
    assert (seen["creator_display_name"], seen["resource_credential_strategy"]) == ("ada", "EMBEDDED_CREDENTIALS")


def test_the_list_shows_what_is_pending_until_something_serves() -> None:
    assert summary(CREATED.endpoints["churn"])["config"]["served_models"] == [{"name": "a", "model_name": "churn", "model_version": "1"}]
    assert [e["entity_version"] for e in summary(UPDATING.endpoints["churn"])["config"]["served_entities"]] == ["1"]
