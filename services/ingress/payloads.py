"""What clients send to the management routes, validated and turned into specs. Pure.

Both generations of names are read (`served_entities` and `served_models`, `served_entity_name` and `served_model_name`).
Fields that would change behaviour and are not built are refused; fields that would not are ignored (databricks_surface §1.3).
"""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from services.ingress.variables import MAX_ENVIRONMENT_VARS, VARIABLE, Sealing, to_variables
from services.shared.control_events import SIZE_CONCURRENCY, ConfigSpec, EntitySpec, Notifications, RateLimit, Route, TableConfig
from services.shared.errors import ParameterInvalid
from services.shared.settings import MIB

MAX_ENTITIES = 15  # databricks_surface §1.3: docs say 10, the live limit was seen at 15
MAX_CONCURRENCY = 200  # databricks_surface §2.4: what a workspace may provision; each 4 are a process and a partition
MAX_RATE_LIMITS = 20
MAX_SEALED_VARIABLES = 2 * MIB  # characters: a secret of 128 KB may stand behind each of hundreds, and the config is one record
MAX_NAME = 63
MAX_CALLS = 2**31 - 1
MAX_LIFETIME_S = 730 * 24 * 3_600  # of a token that is made by the API (Databricks' own)
INFERENCE_TABLE = "TELEMETRY_FEATURE_INFERENCE_TABLE"
WORKLOAD_TYPES = ["CPU", "CPU_MEDIUM", "CPU_LARGE"]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_DIGITS = re.compile(r"[0-9]{1,9}")
_FLAGS = {"true": True, "True": True, "false": False, "False": False}


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"may hold letters, digits, '-' and '_', at most {MAX_NAME} of them")
    return value


def _whole(value: object) -> object:
    """Digits in a string, as old clients send them, and what JSON takes for an integer: 4.0."""
    if (isinstance(value, str) and _DIGITS.fullmatch(value)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def _flag(value: object) -> object:
    return _FLAGS.get(value, value) if isinstance(value, str) else value


def _or_digits(**bounds: int) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "integer", **bounds}, {"type": "string", "pattern": f"^{_DIGITS.pattern}$"}]})


# What is taken beyond its type stands in the document too (`api_document.py`), so that nothing is taken that it does not say.
NAME_SCHEMA = {"type": "string", "pattern": f"^{_NAME.pattern}$"}
Name = Annotated[str, AfterValidator(_name), WithJsonSchema(NAME_SCHEMA)]
TextOrNumber = Annotated[str, Field(coerce_numbers_to_str=True), WithJsonSchema({"type": ["string", "number"]})]
FLAG_SCHEMA = {"enum": [True, False, *_FLAGS]}
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag), WithJsonSchema(FLAG_SCHEMA)]
_Whole = Annotated[int, Field(strict=True), BeforeValidator(_whole)]
Percentage = Annotated[_Whole, Field(ge=0, le=100), _or_digits(minimum=0, maximum=100)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
Calls = Annotated[_Whole, Field(ge=0, le=MAX_CALLS), _or_digits(minimum=0, maximum=MAX_CALLS)]
Lifetime = Annotated[_Whole, Field(ge=1, le=MAX_LIFETIME_S), _or_digits(minimum=1, maximum=MAX_LIFETIME_S)]
Minimum = Annotated[_Whole, Field(ge=0), _or_digits(minimum=0, maximum=MAX_CONCURRENCY, multipleOf=4)]
Maximum = Annotated[_Whole, Field(ge=4), _or_digits(minimum=4, maximum=MAX_CONCURRENCY, multipleOf=4)]
Size = Annotated[str, WithJsonSchema({"type": "string", "enum": list(SIZE_CONCURRENCY)})]
Hardware = Annotated[str, WithJsonSchema({"type": "string", "enum": WORKLOAD_TYPES})]
Variables = Annotated[
    dict[str, TextOrNumber],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_ENVIRONMENT_VARS,
            "propertyNames": {"pattern": f"^{VARIABLE.pattern}$"},
            "additionalProperties": {"type": ["string", "number"]},
        }
    ),
]


class Input(BaseModel):
    model_config = ConfigDict(extra="ignore")


InputT = TypeVar("InputT", bound=Input)


class EntityInput(Input):
    name: Name | None = None
    entity_name: str | None = None
    entity_version: TextOrNumber | None = None
    model_name: str | None = None
    model_version: TextOrNumber | None = None
    workload_size: Size | None = None
    workload_type: Hardware | None = None
    min_provisioned_concurrency: Minimum | None = None
    max_provisioned_concurrency: Maximum | None = None
    scale_to_zero_enabled: Flag = False
    environment_vars: Variables = {}
    external_model: Any = None


class RouteInput(Input):
    served_entity_name: str | None = None
    served_model_name: str | None = None
    traffic_percentage: Percentage


class TrafficInput(Input):
    routes: list[RouteInput] = []


class TableInput(Input):
    enabled: Flag = True
    catalog_name: Name | None = None
    schema_name: Name | None = None
    table_name_prefix: Name | None = None


class ConfigInput(Input):
    served_entities: list[EntityInput] | None = None
    served_models: list[EntityInput] | None = None
    traffic_config: TrafficInput | None = None
    auto_capture_config: TableInput | None = None


class TagInput(Input):
    key: str
    value: TextOrNumber | None = None


class TagsInput(Input):
    add_tags: list[TagInput] = []
    delete_tags: list[str] = []


class NotificationsInput(Input):
    on_update_success: list[str] = []
    on_update_failure: list[str] = []


class NotificationsChangeInput(Input):
    email_notifications: NotificationsInput


class UsageTrackingInput(Input):
    enabled: Flag = False


class RateLimitInput(Input):
    calls: Calls | None = None
    tokens: Any = None
    key: Literal["user", "endpoint", "user_group", "service_principal"] = "endpoint"
    principal: str | None = None
    renewal_period: Literal["minute"] = "minute"


class RateLimitsInput(Input):
    rate_limits: list[RateLimitInput] = []


class GatewayInput(Input):
    inference_table_config: TableInput | None = None
    usage_tracking_config: UsageTrackingInput | None = None
    rate_limits: list[RateLimitInput] = []
    guardrails: dict[str, Any] | None = None
    fallback_config: dict[str, Any] | None = None


class SamplingInput(Input):
    name: str | None = None
    sampling_fraction: Fraction | None = None


class TelemetryInput(Input):
    inference_table_config: SamplingInput | None = None
    table_names: dict[str, Any] | None = None
    telemetry_profile_id: str | None = None
    enabled_telemetry_features: list[str] = []


class TelemetryChangeInput(Input):
    telemetry_config: TelemetryInput | None = None


class CreateInput(Input):
    name: Name
    config: ConfigInput
    tags: list[TagInput] = []
    ai_gateway: GatewayInput | None = None
    rate_limits: list[RateLimitInput] = []
    route_optimized: Flag = False
    description: str | None = None
    email_notifications: NotificationsInput | None = None
    telemetry_config: TelemetryInput | None = None


def parse_create(body: dict[str, Any]) -> CreateInput:
    """Raises ParameterInvalid, naming each field at fault."""
    created = parse(CreateInput, body)
    if created.name.startswith("databricks-"):
        raise ParameterInvalid("Endpoint names must not start with 'databricks-'.")
    return created


def parse_config(body: dict[str, Any]) -> ConfigInput:
    return parse(ConfigInput, body)


def to_config_spec(config: ConfigInput, endpoint: str, sealing: Sealing) -> ConfigSpec:
    """Turn a config as sent into the spec that is logged.

    Raises ParameterInvalid for anything that contradicts itself: shares that do not sum to 100, a route to nobody, two
    entities of one name, sizes that exclude each other; and for variables that cannot be given.
    """
    sent = config.served_entities or config.served_models
    if not sent:
        raise ParameterInvalid("The config needs at least one served entity ('served_entities').")
    if len(sent) > MAX_ENTITIES:
        raise ParameterInvalid(f"An endpoint holds at most {MAX_ENTITIES} served entities; {len(sent)} were given.")
    entities = tuple(_to_entity(entity, sealing) for entity in sent)
    if sum(len(value) for entity in entities for value in entity.environment_vars.values()) > MAX_SEALED_VARIABLES:
        raise ParameterInvalid("The environment variables of the config, with the secrets they refer to, are longer than 1.5 MiB in all.")
    names = [entity.name for entity in entities]
    if len(set(names)) != len(names):
        raise ParameterInvalid(f"Served entity names must be unique within the endpoint; got {', '.join(names)}.")
    table = to_table(config.auto_capture_config, endpoint) if config.auto_capture_config else None
    return ConfigSpec(entities=entities, routes=_to_routes(config.traffic_config, names), auto_capture=table)


def to_gateway(body: GatewayInput, endpoint: str) -> dict[str, Any]:
    """The gateway config that is stored and echoed; `{}` clears it. Raises ParameterInvalid for what would not be enforced."""
    if body.guardrails:
        raise ParameterInvalid("AI gateway guardrails are not supported; remove 'guardrails'.")
    if body.fallback_config and body.fallback_config.get("enabled"):
        raise ParameterInvalid("AI gateway fallbacks are not supported; remove 'fallback_config'.")
    gateway: dict[str, Any] = {}
    if body.inference_table_config:
        gateway["inference_table_config"] = to_table(body.inference_table_config, endpoint).model_dump()
    if body.usage_tracking_config:
        gateway["usage_tracking_config"] = body.usage_tracking_config.model_dump()
    if body.rate_limits:
        gateway["rate_limits"] = _stored(to_rate_limits(body.rate_limits))
    return gateway


def to_legacy_limits(created: CreateInput) -> dict[str, Any]:
    """The old `rate_limits` beside the config, as a part of the gateway config. Raises ParameterInvalid where both forms come."""
    if created.rate_limits and created.ai_gateway and created.ai_gateway.rate_limits:
        raise ParameterInvalid("'rate_limits' and 'ai_gateway.rate_limits' exclude each other.")
    return {"rate_limits": _stored(to_rate_limits(created.rate_limits))} if created.rate_limits else {}


def to_rate_limits(sent: list[RateLimitInput]) -> tuple[RateLimit, ...]:
    """Raises ParameterInvalid for limits nobody would hold, and for two of the same callers."""
    if len(sent) > MAX_RATE_LIMITS:
        raise ParameterInvalid(f"An endpoint takes at most {MAX_RATE_LIMITS} rate limits; {len(sent)} were given.")
    limits = tuple(_to_rate_limit(limit) for limit in sent)
    if len({(limit.key, limit.principal) for limit in limits}) != len(limits):
        raise ParameterInvalid("Two rate limits are for the same key and principal.")
    return limits


def parse_rate_limits(body: dict[str, Any]) -> list[RateLimitInput]:
    return parse(RateLimitsInput, body).rate_limits


def parse_gateway(body: dict[str, Any]) -> GatewayInput:
    return parse(GatewayInput, body)


def parse_telemetry(body: dict[str, Any]) -> TelemetryInput | None:
    return parse(TelemetryChangeInput, body).telemetry_config


def to_sampling(sent: TelemetryInput | None, table: TableConfig | None) -> float | None:
    """The share of requests that `table` is to get; None where none is given. Raises ParameterInvalid for what would not be exported."""
    if sent is None:
        return None
    if sent.table_names or sent.telemetry_profile_id:
        raise ParameterInvalid("Logs, traces and metrics are not exported to tables; remove 'table_names' and 'telemetry_profile_id'.")
    if set(sent.enabled_telemetry_features) - {INFERENCE_TABLE}:
        raise ParameterInvalid(f"Only {INFERENCE_TABLE} is supported in 'enabled_telemetry_features'.")
    sampling = sent.inference_table_config or SamplingInput()
    if sampling.name and (table is None or sampling.name != table.full_name):
        logs_to = f"to '{table.full_name}'" if table else "no requests; switch its table on by 'ai_gateway'"
        raise ParameterInvalid(f"'inference_table_config.name' is '{sampling.name}', and the endpoint logs {logs_to}.")
    return sampling.sampling_fraction


def parse_tags(body: dict[str, Any]) -> TagsInput:
    """Raises ParameterInvalid, also for a tag that is to come and to go."""
    sent = parse(TagsInput, body)
    if twice := {tag.key for tag in sent.add_tags} & set(sent.delete_tags):
        raise ParameterInvalid(f"The tag '{min(twice)}' is both in 'add_tags' and in 'delete_tags'.")
    return sent


def parse_notifications(body: dict[str, Any]) -> Notifications:
    return to_notifications(parse(NotificationsChangeInput, body).email_notifications)


def to_notifications(sent: NotificationsInput) -> Notifications:
    return Notifications(on_update_success=tuple(sent.on_update_success), on_update_failure=tuple(sent.on_update_failure))


def to_table(table: TableInput, endpoint: str) -> TableConfig:
    if not (table.catalog_name and table.schema_name):
        raise ParameterInvalid("An inference table needs 'catalog_name' and 'schema_name'.")
    return TableConfig(
        catalog_name=table.catalog_name,
        schema_name=table.schema_name,
        table_name_prefix=table.table_name_prefix or endpoint,
        enabled=table.enabled,
    )


def parse(kind: type[InputT], body: dict[str, Any]) -> InputT:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        faults = (f"'{'.'.join(map(str, fault['loc']))}': {fault['msg']}" for fault in error.errors(include_url=False))
        raise ParameterInvalid("Invalid request: " + "; ".join(faults)) from error


def _to_entity(sent: EntityInput, sealing: Sealing) -> EntitySpec:
    model_name, model_version = sent.entity_name or sent.model_name, sent.entity_version or sent.model_version
    if sent.external_model is not None:
        raise ParameterInvalid("External models are not supported; serve a model registered in MLflow.")
    if not model_name or not model_version:
        raise ParameterInvalid("Each served entity needs 'entity_name' and 'entity_version'.")
    _check_size(sent)
    variables = to_variables(sent.environment_vars, sealing)
    return EntitySpec(
        name=sent.name or _default_name(model_name, model_version),
        model_name=model_name,
        model_version=model_version,
        workload_size=sent.workload_size,
        workload_type=sent.workload_type or "CPU",
        min_provisioned_concurrency=sent.min_provisioned_concurrency,
        max_provisioned_concurrency=sent.max_provisioned_concurrency,
        scale_to_zero_enabled=sent.scale_to_zero_enabled,
        environment_vars=variables.sealed,
        secret_references=variables.references,
    )


def _check_size(sent: EntityInput) -> None:
    least, most = sent.min_provisioned_concurrency, sent.max_provisioned_concurrency
    if sent.workload_type not in (None, *WORKLOAD_TYPES):
        raise ParameterInvalid(f"Workload type '{sent.workload_type}' is not available: this installation has CPU replicas only.")
    if sent.workload_size is not None and (least is not None or most is not None):
        raise ParameterInvalid("'workload_size' and provisioned concurrency exclude each other.")
    if sent.workload_size is not None and sent.workload_size not in SIZE_CONCURRENCY:
        raise ParameterInvalid(f"Workload size must be one of {', '.join(SIZE_CONCURRENCY)}; got '{sent.workload_size}'.")
    if least is not None and most is None:
        raise ParameterInvalid("'min_provisioned_concurrency' needs 'max_provisioned_concurrency' beside it.")
    if any(bound is not None and bound % 4 for bound in (least, most)) or (least or 0) > (most or least or 0):
        raise ParameterInvalid("Provisioned concurrency bounds are multiples of 4, the minimum not above the maximum.")
    if (most or 0) > MAX_CONCURRENCY:
        raise ParameterInvalid(f"Workspace exceeded provisioned concurrency quota: a served entity gets at most {MAX_CONCURRENCY}.")


def _default_name(model_name: str, model_version: str) -> str:
    """`{model leaf}-{version}`, e.g. `churn-3` (databricks_surface §1.3)."""
    leaf = model_name.rsplit(".", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{leaf}-{model_version}")[:MAX_NAME]


def _to_routes(traffic: TrafficInput | None, names: list[str]) -> tuple[Route, ...]:
    if traffic is None or not traffic.routes:
        if len(names) > 1:
            raise ParameterInvalid("Several served entities need a 'traffic_config' whose shares sum to 100.")
        return (Route(entity=names[0], traffic_percentage=100),)
    routes = tuple(
        Route(entity=r.served_entity_name or r.served_model_name or "", traffic_percentage=r.traffic_percentage) for r in traffic.routes
    )
    routed = [route.entity for route in routes]
    if unknown := sorted(set(routed) - set(names)):
        raise ParameterInvalid(f"The traffic config routes to '{unknown[0]}', which is not a served entity of this config.")
    if len(set(routed)) != len(routed):
        raise ParameterInvalid("The traffic config names a served entity twice.")
    total = sum(route.traffic_percentage for route in routes)
    if total != 100:
        raise ParameterInvalid(f"The traffic percentages must sum to 100; they sum to {total}.")
    return routes


def _to_rate_limit(sent: RateLimitInput) -> RateLimit:
    if sent.tokens is not None or sent.calls is None:
        raise ParameterInvalid("A rate limit needs 'calls'; limits by 'tokens' are not supported.")
    if sent.key == "user_group":
        raise ParameterInvalid("Rate limits for groups are not supported; use key 'user' or 'endpoint'.")
    if (sent.key == "service_principal" and not sent.principal) or (sent.key == "endpoint" and sent.principal):
        raise ParameterInvalid("A rate limit names a 'principal' with key 'service_principal', may with 'user', and never with 'endpoint'.")
    return RateLimit(calls=sent.calls, key=sent.key, renewal_period=sent.renewal_period, principal=sent.principal or None)


def _stored(limits: tuple[RateLimit, ...]) -> list[dict[str, Any]]:
    return [limit.model_dump(exclude_none=True) for limit in limits]
