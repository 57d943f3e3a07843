"""Endpoints as clients see them: the objects of databricks_surface §1.4, both generations of names. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.shared.control_events import ConfigSpec, EntitySpec, Notifications, TableConfig
from services.shared.endpoints import Config, Deployment, Endpoint, ServedEntity, served_entity_id
from services.shared.presence import PoolReport

PoolReports = Mapping[str, PoolReport]
TableFaults = Mapping[str, str]  # catalog.schema.table → why its rows cannot be written
NO_FAULTS: TableFaults = MappingProxyType({})
REDACTED = "[redacted]"  # I7: values of environment variables are never returned


def detailed(endpoint: Endpoint, reports: PoolReports, level: str = "CAN_MANAGE", faults: TableFaults = NO_FAULTS) -> dict[str, Any]:
    """What create, get and update answer. Until the first success there is no `config`, and ready is NOT_READY (§6).

    `level` is the caller's; who changes an endpoint manages it.
    """
    view = _common(endpoint)
    if gateway := view.get("ai_gateway"):
        view["ai_gateway"] = gateway_view(gateway, faults)
    view |= {
        "permission_level": level,
        "route_optimized": endpoint.route_optimized,
        "creator_display_name": endpoint.creator,
        "resource_credential_strategy": "EMBEDDED_CREDENTIALS",  # as Databricks says of models that bring what they need
    }
    if endpoint.notifications:
        view["email_notifications"] = email_notifications(endpoint.notifications)
    if endpoint.active:
        view["config"] = _config(endpoint.active, endpoint, reports, faults)
    if endpoint.pending:
        pending = endpoint.pending
        view["pending_config"] = _config(pending, endpoint, reports, faults) | {"start_time": pending.requested_ms}
    return view


def gateway_view(gateway: Mapping[str, Any], faults: TableFaults) -> dict[str, Any]:
    """Its table with the state it is in, as Databricks has it for `auto_capture_config` alone."""
    table = gateway.get("inference_table_config")
    return dict(gateway) | ({"inference_table_config": _with_state(TableConfig.model_validate(table), faults)} if table else {})


def email_notifications(notifications: Notifications) -> dict[str, list[str]]:
    """A list that was never set is left out, as clients send it."""
    lists = {"on_update_success": notifications.on_update_success, "on_update_failure": notifications.on_update_failure}
    return {when: list(addresses) for when, addresses in lists.items() if addresses}


def tags(endpoint: Endpoint) -> list[dict[str, str]]:
    return [{"key": key} | ({} if value is None else {"value": value}) for key, value in endpoint.tags]


def summary(endpoint: Endpoint) -> dict[str, Any]:
    """An item of the list."""
    view = _common(endpoint)
    config = endpoint.active or endpoint.pending
    if config:
        view["config"] = {
            "served_entities": [{"name": e.name, **_entity_model(e)} for e in config.spec.entities],
            "served_models": [{"name": e.name, **_served_model(e)} for e in config.spec.entities],
        }
    return view


def _common(endpoint: Endpoint) -> dict[str, Any]:
    view: dict[str, Any] = {
        "name": endpoint.name,
        "id": endpoint.endpoint_id,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_ms,
        "last_updated_timestamp": endpoint.updated_ms,
        "state": {
            "ready": "READY" if endpoint.serving else "NOT_READY",
            "config_update": endpoint.update.value,
            "suspend": "NOT_SUSPENDED",
        },
        "tags": tags(endpoint),
        "description": endpoint.description,
    }
    if endpoint.gateway:
        view["ai_gateway"] = dict(endpoint.gateway)
    if endpoint.sampling_fraction is not None:
        view["telemetry_config"] = {"inference_table_config": _sampling(endpoint.sampling_fraction, endpoint.table)}
    return view


def _sampling(fraction: float, table: TableConfig | None) -> dict[str, Any]:
    return ({"name": table.full_name} if table else {}) | {"sampling_fraction": fraction}


def _config(config: Config, endpoint: Endpoint, reports: PoolReports, faults: TableFaults) -> dict[str, Any]:
    entities = [_entity(config.entities[e.name], endpoint, reports) for e in config.spec.entities]
    view = {
        "served_entities": [entity | _entity_model(spec) for entity, spec in zip(entities, config.spec.entities, strict=True)],
        "served_models": [entity | _served_model(spec) for entity, spec in zip(entities, config.spec.entities, strict=True)],
        "traffic_config": {"routes": _routes(config.spec)},
        "config_version": config.version,
    }
    if config.spec.auto_capture:
        view["auto_capture_config"] = _with_state(config.spec.auto_capture, faults)
    return view


def _entity(entity: ServedEntity, endpoint: Endpoint, reports: PoolReports) -> dict[str, Any]:
    spec = entity.spec
    deployment, message = _deployment(entity, endpoint, reports.get(entity.pool_id))
    view = {
        "name": spec.name,
        "id": served_entity_id(entity.pool_id),
        "workload_type": spec.workload_type,
        "scale_to_zero_enabled": spec.scale_to_zero_enabled,
        "state": {"deployment": deployment.value, "deployment_state_message": message},
        "creator": endpoint.creator,
        "creation_timestamp": entity.created_ms,
    }
    sized = {
        "workload_size": spec.workload_size if spec.max_provisioned_concurrency is not None else spec.workload_size or "Small",
        "min_provisioned_concurrency": spec.min_provisioned_concurrency,
        "max_provisioned_concurrency": spec.max_provisioned_concurrency,
    }
    view |= {name: value for name, value in sized.items() if value is not None}
    if spec.environment_vars:
        view["environment_vars"] = {name: spec.secret_references.get(name, REDACTED) for name in spec.environment_vars}
    return view


def _deployment(entity: ServedEntity, endpoint: Endpoint, report: PoolReport | None) -> tuple[Deployment, str]:
    """What the log says, and for a pool in service what the scaler sees of it now."""
    if endpoint.stopped and endpoint.active and entity is endpoint.active.entities.get(entity.spec.name):
        return Deployment.ABORTED, "The endpoint is stopped."
    serves = endpoint.serving is not None and any(e.pool_id == entity.pool_id for e in endpoint.serving.entities.values())
    if not serves or report is None or entity.deployment is not Deployment.READY:
        return entity.deployment, entity.message
    if report.failure:
        return (Deployment.FAILED if report.failed else Deployment.RECOVERING), report.failure
    if report.wanted == 0 and report.ready == 0:
        return Deployment.READY, "Scaled to zero"
    return Deployment.READY, ""


def _entity_model(spec: EntitySpec) -> dict[str, str]:
    return {"entity_name": spec.model_name, "entity_version": spec.model_version}


def _served_model(spec: EntitySpec) -> dict[str, str]:
    return {"model_name": spec.model_name, "model_version": spec.model_version}


def _routes(spec: ConfigSpec) -> list[dict[str, Any]]:
    return [
        {"served_model_name": r.entity, "served_entity_name": r.entity, "traffic_percentage": r.traffic_percentage} for r in spec.routes
    ]


def _with_state(table: TableConfig, faults: TableFaults) -> dict[str, Any]:
    name, fault = table.full_name.rsplit(".", 1)[-1], faults.get(table.full_name)
    state = {"name": name, "status": "FAILED" if fault else "READY", "status_message": fault or ""}
    return table.model_dump() | {"state": {"payload_table": state}}
