"""Endpoints as people read them: the API's objects (databricks_surface §1.4) as words and tables. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.layout import cell, instant, moment, table

Endpoint = Mapping[str, Any]
_COLOURS = dict.fromkeys(("READY", "SUCCESS"), "green")
_COLOURS |= dict.fromkeys(("CREATING", "RECOVERING", "IN_PROGRESS"), "yellow")
_COLOURS |= dict.fromkeys(("FAILED", "ABORTED", "CANCELED"), "red")

_EVENTS = {
    "ENDPOINT_UPDATE_EVENT": "update",
    "SERVED_ENTITY_CONTAINER_EVENT": "entity",
    "POOL_RESIZED": "size",
    "REPLICA_FAILED": "replica",
    "WORKERS_NOT_FORKED": "worker",
}


def newest_entities(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Served entities of the config that is being deployed, or failed, else of the one that serves."""
    config = endpoint.get("pending_config") or endpoint.get("config") or {"served_entities": []}
    return list(config["served_entities"])


def state_in_words(endpoint: Endpoint) -> str:
    """The words of Databricks' own pages, of which the API tells the parts."""
    ready, update = endpoint["state"]["ready"] == "READY", endpoint["state"]["config_update"]
    detail = {"IN_PROGRESS": "Updating", "UPDATE_FAILED": "Update failed", "UPDATE_CANCELED": "Update canceled"}.get(update)
    if not ready and detail is None:
        detail = "Stopped"  # what never served is being updated, or was
    return ("Ready" if ready else "Not ready") + (f" ({detail})" if detail else "")


def state_cell(endpoint: Endpoint) -> Text:
    words = state_in_words(endpoint)
    return cell(words, "green" if words == "Ready" else "yellow" if words.startswith("Ready") or "Updating" in words else "red")


def list_table(endpoints: Sequence[Endpoint]) -> Table:
    laid = table("name", "state", "serves", "creator", "changed", wrapped=("name", "serves", "creator"))
    for endpoint in sorted(endpoints, key=lambda endpoint: str(endpoint["name"])):
        entities = endpoint.get("config", {}).get("served_entities", [])
        serves = ", ".join(entity["name"] for entity in entities)
        changed = moment(endpoint["last_updated_timestamp"])
        laid.add_row(cell(endpoint["name"]), state_cell(endpoint), cell(serves), cell(endpoint["creator"]), changed)
    return laid


def detail_view(endpoint: Endpoint) -> RenderableType:
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, value in _facts(endpoint):
        facts.add_row(f"  {name}", cell(value))
    parts: list[RenderableType] = [Text.assemble((endpoint["name"], "bold"), " · ", state_cell(endpoint)), facts]
    if config := endpoint.get("config"):
        role = "which is stopped" if endpoint["state"]["ready"] != "READY" else "which serves"
        parts += [Text(f"\nconfig {config['config_version']}, {role}"), entity_table(config)]
    if pending := endpoint.get("pending_config"):
        under_way = endpoint["state"]["config_update"] == "IN_PROGRESS"
        what = f"under way since {moment(pending['start_time'])}" if under_way else "which did not come to serve"
        parts += [Text(f"\nconfig {pending['config_version']}, {what}"), entity_table(pending)]
    return Group(*parts)


def entity_table(config: Mapping[str, Any]) -> Table:
    columns = ("served entity", "model", "version", "share", "size", "to zero", "state")
    laid = table(*columns, right=("version", "share"), wrapped=("served entity", "model", "state"))
    shares = {route["served_entity_name"]: route["traffic_percentage"] for route in config["traffic_config"]["routes"]}
    for entity in config["served_entities"]:
        laid.add_row(
            cell(entity["name"]),
            cell(entity["entity_name"]),
            cell(entity["entity_version"]),
            f"{shares.get(entity['name'], 0)} %",
            _size(entity),
            "yes" if entity["scale_to_zero_enabled"] else "no",
            _deployment_cell(entity["state"]),
        )
    return laid


def deployment(state: Mapping[str, Any]) -> str:
    return str(state["deployment"]).removeprefix("DEPLOYMENT_").lower()


def event_table(events: Sequence[Mapping[str, Any]]) -> Table:
    laid = table("time", "what", "status", "message", wrapped=("message",))
    for event in events:
        what = _EVENTS.get(event["event_type"], event["event_type"])
        laid.add_row(instant(event["timestamp"]), cell(what), _coloured(str(event["status"])), cell(event["message"]))
    return laid


def topics_view(topics: Mapping[str, Any]) -> Table:
    laid = Table.grid(padding=(0, 2, 0, 0))
    on = topics["enabled"]
    facts = {
        "topics": f"on, as requests of {topics['requester']}" if on else "off: what is submitted lies there",
        "requests": topics["requests_topic"],
        "results": topics["results_topic"],
        "Kafka": topics["bootstrap_servers"],
    }
    for name, value in facts.items():
        laid.add_row(name, cell(value))
    return laid


def prediction_table(answer: Any) -> Table | None:
    """A row for each; None for predictions that are no list, which are better read as JSON."""
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list) or not predictions:
        return None
    records = all(isinstance(prediction, dict) for prediction in predictions)
    columns = list(dict.fromkeys(key for prediction in predictions for key in prediction)) if records else ["prediction"]
    if not columns:
        return None
    titles = [cell(column).plain for column in columns]
    laid = table("row", *titles, right=("row",), wrapped=tuple(titles))
    for number, prediction in enumerate(predictions):
        values = [prediction.get(column) for column in columns] if records else [prediction]
        laid.add_row(str(number), *map(_value, values))
    return laid


def _facts(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    yield "id", endpoint["id"]
    yield "created", f"{moment(endpoint['creation_timestamp'])} by {endpoint['creator']}"
    yield "changed", moment(endpoint["last_updated_timestamp"])
    yield "you", endpoint["permission_level"]
    if endpoint["description"]:
        yield "about", endpoint["description"]
    if endpoint["tags"]:
        yield "tags", ", ".join(f"{tag['key']}={tag['value']}" if "value" in tag else tag["key"] for tag in endpoint["tags"])
    logged = endpoint.get("ai_gateway", {}).get("inference_table_config") or endpoint.get("config", {}).get("auto_capture_config")
    if logged and logged["enabled"]:
        share = endpoint.get("telemetry_config", {}).get("inference_table_config", {}).get("sampling_fraction", 1)
        sampled = f" ({share:.6g} of the requests)" if share < 1 else ""
        yield "table", f"{logged['catalog_name']}.{logged['schema_name']}.{logged['table_name_prefix']}_payload{sampled}"
    for limit in endpoint.get("ai_gateway", {}).get("rate_limits", ()):
        whose = f"{limit['key']} {limit['principal']}" if "principal" in limit else limit["key"]
        yield "limit", f"{limit['calls']} a {limit['renewal_period']} by {whose}"


def _size(entity: Mapping[str, Any]) -> str:
    if "max_provisioned_concurrency" in entity:
        return f"{entity.get('min_provisioned_concurrency', 0)}–{entity['max_provisioned_concurrency']}"
    return str(entity.get("workload_size", ""))


def _deployment_cell(state: Mapping[str, Any]) -> Text:
    said = state.get("deployment_state_message")
    return Text(": ").join([_coloured(deployment(state).upper()), cell(said)]) if said else _coloured(deployment(state).upper())


def _coloured(status: str) -> Text:
    return cell(status.lower().replace("_", " "), _COLOURS.get(status, ""))


def _value(value: Any) -> Text:
    return cell(value if isinstance(value, str) else json.dumps(value))
