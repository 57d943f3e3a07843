"""What clients may send, and how each refusal reads."""

from typing import Any

import pytest

from services.ingress.payloads import (
    parse_config,
    parse_create,
    parse_gateway,
    parse_rate_limits,
    parse_tags,
    parse_telemetry,
    to_config_spec,
    to_gateway,
    to_legacy_limits,
    to_rate_limits,
    to_sampling,
)
from services.ingress.variables import Sealing
from services.shared.control_events import ConfigSpec, Route, TableConfig
from services.shared.errors import ParameterInvalid

MODEL = {"entity_name": "main.ml.churn", "entity_version": "3"}
OLD_MODEL = {"model_name": "churn", "model_version": "3"}
TABLE = {"catalog_name": "main", "schema_name": "ml"}
LOGGED = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="ep")


SECRETS = {("s", "k"): "sealed secret", ("s", "long"): "x" * 128 * 1024}
SEALING = Sealing(lambda value: f"sealed {value}", lambda scope, key: SECRETS.get((scope, key)))


def spec(body: dict[str, Any]) -> ConfigSpec:
    return to_config_spec(parse_config(body), "ep", SEALING)


def of(**entity: Any) -> dict[str, Any]:
    return {"served_entities": [{**MODEL, **entity}]}


def routed(*shares: Any, field: str = "served_entity_name", names: str = "abc") -> dict[str, Any]:
    entities = [{**MODEL, "name": n} for n, _ in zip(names, shares, strict=False)]
    routes = [{field: n, "traffic_percentage": share} for n, share in zip(names, shares, strict=False)]
    return {"served_entities": entities, "traffic_config": {"routes": routes}}


@pytest.mark.parametrize(
    ("body", "shares"),
    [
        pytest.param(of(), {"churn-3": 100}, id="one entity gets a name and all traffic"),
        pytest.param({"served_models": [OLD_MODEL]}, {"churn-3": 100}, id="the old form"),
        pytest.param({"served_entities": [OLD_MODEL]}, {"churn-3": 100}, id="old names in the new form"),
        pytest.param({"served_entities": [], "served_models": [OLD_MODEL]}, {"churn-3": 100}, id="an empty new form beside the old one"),
        pytest.param(of(entity_version=3), {"churn-3": 100}, id="a version that is a number"),
        pytest.param(of(entity_version="+1"), {"churn--1": 100}, id="a default name Kafka can have in a topic"),
        pytest.param(of(entity_name="main.ml.the model"), {"the-model-3": 100}, id="a model name with a space"),
        pytest.param(of(entity_name="m" * 80), {"m" * 63: 100}, id="a long model name is cut"),
        pytest.param(routed(80, 20), {"a": 80, "b": 20}, id="a split"),
        pytest.param(routed("90", "10", field="served_model_name"), {"a": 90, "b": 10}, id="percentages as text, old route names"),
        pytest.param(routed(100, 0), {"a": 100, "b": 0}, id="a share of nothing"),
        pytest.param(routed(90.0, 10), {"a": 90, "b": 10}, id="what JSON takes for an integer"),
        pytest.param(of(scale_to_zero_enabled="True"), {"churn-3": 100}, id="a flag as old notebooks send it"),
        pytest.param({**of(), "traffic_config": {"routes": []}}, {"churn-3": 100}, id="no routes for one entity"),
        pytest.param({**of(), "email_notifications": 1, "name": "ep"}, {"churn-3": 100}, id="unknown fields are ignored"),
    ],
)
def test_routes_of_a_config(body: dict[str, Any], shares: dict[str, int]) -> None:
    made = spec(body)
    assert made.routes == tuple(Route(entity=name, traffic_percentage=share) for name, share in shares.items())
    assert {entity.name for entity in made.entities} >= set(shares)


def test_an_entity_with_everything() -> None:
    made = spec(
        of(name="a", workload_type="CPU", min_provisioned_concurrency="4", max_provisioned_concurrency=8, environment_vars={"K": "v"})
    )
    entity = made.entities[0]
    assert (entity.model_name, entity.model_version, entity.concurrency) == ("main.ml.churn", "3", (4, 8))
    assert (entity.environment_vars, entity.secret_references) == ({"K": "sealed v"}, {})


def test_a_reference_is_kept_with_the_value_that_the_secret_has_now() -> None:
    entity = spec(of(environment_vars={"A": "{{secrets/s/k}}", "B": "{{secret}}"})).entities[0]
    assert entity.environment_vars == {"A": "sealed secret", "B": "sealed {{secret}}"}
    assert entity.secret_references == {"A": "{{secrets/s/k}}"}


PROVISIONED = "Provisioned concurrency bounds are multiples of 4, the minimum not above the maximum."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "The config needs at least one served entity ('served_entities').", id="no entity"),
        pytest.param(
            {"served_entities": [{**MODEL, "name": f"e{n}"} for n in range(16)]},
            "An endpoint holds at most 15 served entities; 16 were given.",
            id="too many entities",
        ),
        pytest.param({"served_entities": [{}]}, "Each served entity needs 'entity_name' and 'entity_version'.", id="no model"),
        pytest.param(
            {"served_entities": [{"entity_name": "m"}]}, "Each served entity needs 'entity_name' and 'entity_version'.", id="no version"
        ),
        pytest.param(
            {"served_entities": [MODEL, MODEL]}, "Served entity names must be unique within the endpoint; got churn-3, churn-3.", id="twins"
        ),
        pytest.param(
            of(external_model={}), "External models are not supported; serve a model registered in MLflow.", id="an external model"
        ),
        pytest.param(
            of(workload_type="GPU_SMALL"),
            "Workload type 'GPU_SMALL' is not available: this installation has CPU replicas only.",
            id="a GPU",
        ),
        pytest.param(of(workload_size="Huge"), "Workload size must be one of Small, Medium, Large; got 'Huge'.", id="an unknown size"),
        pytest.param(
            of(workload_size="Small", max_provisioned_concurrency=4),
            "'workload_size' and provisioned concurrency exclude each other.",
            id="two sizes at once",
        ),
        pytest.param(
            of(min_provisioned_concurrency=4),
            "'min_provisioned_concurrency' needs 'max_provisioned_concurrency' beside it.",
            id="a minimum alone",
        ),
        pytest.param(of(max_provisioned_concurrency=6), PROVISIONED, id="no multiple of 4"),
        pytest.param(
            of(max_provisioned_concurrency=204),
            "Workspace exceeded provisioned concurrency quota: a served entity gets at most 200.",
            id="more replicas, and so partitions, than anybody has room for",
        ),
        pytest.param(of(min_provisioned_concurrency=8, max_provisioned_concurrency=4), PROVISIONED, id="a minimum above the maximum"),
        pytest.param(
            of(environment_vars={f"K{n}": "" for n in range(31)}),
            "A served entity takes at most 30 environment variables; 31 were given.",
            id="too many variables",
        ),
        pytest.param(of(environment_vars={"1K": ""}), "'1K' is no name of an environment variable.", id="no name of a variable"),
        pytest.param(
            of(environment_vars={"K": "{{secrets/s/other}}"}),
            "Environment variable 'K' refers to '{{secrets/s/other}}', but there is no such secret that you may read.",
            id="a secret that is not there",
        ),
        *(
            pytest.param(
                of(environment_vars={"K": value}),
                "Environment variable 'K' refers to a secret in another form than '{{secrets/scope/key}}'.",
                id=f"a reference like {value}",
            )
            for value in ("{{ secrets/s/k }}", "Bearer {{secrets/s/k}}", "{{secrets/s}}", "{{secrets/s/k/l}}", "{{secrets/s/k}}\n")
        ),
        pytest.param(
            of(environment_vars={f"K{n}": "{{secrets/s/long}}" for n in range(20)}),
            "The environment variables of the config, with the secrets they refer to, are longer than 1.5 MiB in all.",
            id="more than one record should hold",
        ),
        pytest.param(
            of(environment_vars={"K": "a\0b"}),
            "Environment variable 'K' holds a NUL character, which no process can be given.",
            id="a NUL in a value",
        ),
        pytest.param(
            {"served_entities": [{**MODEL, "name": "a"}, {**MODEL, "name": "b"}]},
            "Several served entities need a 'traffic_config' whose shares sum to 100.",
            id="two entities without shares",
        ),
        pytest.param(routed(50, 49), "The traffic percentages must sum to 100; they sum to 99.", id="too little"),
        pytest.param(routed(60, 50), "The traffic percentages must sum to 100; they sum to 110.", id="too much"),
        pytest.param(
            {**of(), "traffic_config": {"routes": [{"served_entity_name": "z", "traffic_percentage": 100}]}},
            "The traffic config routes to 'z', which is not a served entity of this config.",
            id="a route to nobody",
        ),
        pytest.param(routed(50, 50, names="aa") | of(name="a"), "The traffic config names a served entity twice.", id="a route twice"),
        pytest.param(
            {**of(), "auto_capture_config": {"catalog_name": "main"}},
            "An inference table needs 'catalog_name' and 'schema_name'.",
            id="half a table",
        ),
    ],
)
def test_a_config_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterInvalid) as refused:
        spec(body)
    assert (refused.value.message, refused.value.code) == (message, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(of(name="a b"), "served_entities.0.name", id="a name with a space"),
        pytest.param(of(name="é"), "served_entities.0.name", id="a name that is no ASCII"),
        pytest.param(of(name="a\n"), "served_entities.0.name", id="a name with a line end"),
        pytest.param(of(name="a" * 64), "served_entities.0.name", id="a name too long"),
        pytest.param(of(max_provisioned_concurrency=0), "served_entities.0.max_provisioned_concurrency", id="a maximum of nothing"),
        pytest.param(of(min_provisioned_concurrency=-4), "served_entities.0.min_provisioned_concurrency", id="a minimum below nothing"),
        pytest.param(of(scale_to_zero_enabled=1), "served_entities.0.scale_to_zero_enabled", id="a number for a flag"),
        pytest.param(of(name=5), "served_entities.0.name", id="a number for a name"),
        pytest.param(routed(True, 99), "traffic_config.routes.0.traffic_percentage", id="a flag for a number"),
        pytest.param(routed(" 9", 91), "traffic_config.routes.0.traffic_percentage", id="digits with a space"),
        pytest.param(of(environment_vars=["K"]), "served_entities.0.environment_vars", id="variables in a list"),
        pytest.param(routed(101), "traffic_config.routes.0.traffic_percentage", id="more than everything"),
        pytest.param(routed(-1), "traffic_config.routes.0.traffic_percentage", id="less than nothing"),
        pytest.param(routed("half"), "traffic_config.routes.0.traffic_percentage", id="a share in words"),
        pytest.param(routed(33.3), "traffic_config.routes.0.traffic_percentage", id="a broken share"),
        pytest.param({"served_entities": "m"}, "served_entities", id="entities that are no list"),
        pytest.param(
            {**of(), "auto_capture_config": {**TABLE, "catalog_name": "../x"}}, "auto_capture_config.catalog_name", id="a path as a name"
        ),
    ],
)
def test_a_malformed_field_is_named_and_its_value_is_not(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterInvalid, match=rf"^Invalid request: '{field}': ") as refused:
        spec(body)
    assert refused.value.code == "INVALID_PARAMETER_VALUE"
    assert "../x" not in refused.value.message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"name": "databricks-x"}, "Endpoint names must not start with 'databricks-'.", id="a reserved name"),
        pytest.param(
            {"rate_limits": [{"calls": 1}], "ai_gateway": {"rate_limits": [{"calls": 1}]}},
            "'rate_limits' and 'ai_gateway.rate_limits' exclude each other.",
            id="limits in both forms",
        ),
        pytest.param({"name": None}, "Invalid request: 'name': Input should be a valid string", id="no name"),
        pytest.param({"name": "a/b"}, "Invalid request: 'name': Value error, may hold letters", id="a name with a slash"),
        pytest.param({"config": 1}, "Invalid request: 'config': Input should be", id="a config that is a number"),
    ],
)
def test_a_create_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterInvalid) as refused:
        to_legacy_limits(parse_create({"name": "ep", "config": of(), **changed}))
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        pytest.param({}, {}, id="nothing clears it"),
        pytest.param(
            {"inference_table_config": TABLE},
            {"inference_table_config": {**TABLE, "table_name_prefix": "ep", "enabled": True}},
            id="a table takes the endpoint's name",
        ),
        pytest.param({"usage_tracking_config": {"enabled": True}}, {"usage_tracking_config": {"enabled": True}}, id="usage tracking"),
        pytest.param(
            {"rate_limits": [{"calls": 5, "key": "user", "renewal_period": "minute"}]},
            {"rate_limits": [{"calls": 5, "key": "user", "renewal_period": "minute"}]},
            id="rate limits",
        ),
        pytest.param({"fallback_config": {"enabled": False}, "guardrails": {}}, {}, id="what is switched off is accepted"),
        pytest.param(
            {"usage_tracking_config": {"enabled": True, "deep": {"deeper": {}}}},
            {"usage_tracking_config": {"enabled": True}},
            id="nothing unbounded is stored: an event too deep could be written and never be folded",
        ),
    ],
)
def test_a_gateway_is_stored(body: dict[str, Any], stored: dict[str, Any]) -> None:
    assert to_gateway(parse_gateway(body), "ep") == stored


@pytest.mark.parametrize("body", [{"guardrails": {"input": {}}}, {"fallback_config": {"enabled": True}}])
def test_a_gateway_that_would_not_be_enforced_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ParameterInvalid, match="remove '"):
        to_gateway(parse_gateway(body), "ep")


@pytest.mark.parametrize(
    ("config", "fraction"),
    [
        pytest.param(None, None, id="none takes it back"),
        pytest.param({}, None, id="an empty one, too"),
        pytest.param({"inference_table_config": {"sampling_fraction": 0.25}}, 0.25, id="a share"),
        pytest.param({"inference_table_config": {"sampling_fraction": 0}}, 0.0, id="nothing is logged"),
        pytest.param({"inference_table_config": {"name": "main.ml.ep_payload", "sampling_fraction": 1}}, 1.0, id="the table by its name"),
        pytest.param({"enabled_telemetry_features": ["TELEMETRY_FEATURE_INFERENCE_TABLE"]}, None, id="the table alone, as ever"),
    ],
)
def test_a_telemetry_config_tells_which_share_is_logged(config: dict[str, Any] | None, fraction: float | None) -> None:
    assert to_sampling(parse_telemetry({"telemetry_config": config}), LOGGED) == fraction


@pytest.mark.parametrize(
    ("config", "table", "said"),
    [
        pytest.param({"table_names": {"logs_table": "l"}}, LOGGED, "remove 'table_names'", id="logs in a table"),
        pytest.param({"telemetry_profile_id": "p"}, LOGGED, "and 'telemetry_profile_id'", id="a profile"),
        pytest.param({"enabled_telemetry_features": ["TELEMETRY_FEATURE_LOGS"]}, LOGGED, "Only TELEMETRY_FEATURE_INF", id="another signal"),
        pytest.param({"inference_table_config": {"name": "a.b.c"}}, LOGGED, "logs to 'main.ml.ep_payload'", id="another table"),
        pytest.param({"inference_table_config": {"name": "a.b.c"}}, None, "switch its table on by 'ai_gateway'", id="no table"),
    ],
)
def test_telemetry_that_would_go_nowhere_is_refused(config: dict[str, Any], table: TableConfig | None, said: str) -> None:
    with pytest.raises(ParameterInvalid, match=said):
        to_sampling(parse_telemetry({"telemetry_config": config}), table)


@pytest.mark.parametrize("fraction", [-0.1, 1.01, "0.5", True])
def test_a_share_is_a_number_from_none_to_all(fraction: object) -> None:
    with pytest.raises(ParameterInvalid, match="sampling_fraction"):
        parse_telemetry({"telemetry_config": {"inference_table_config": {"sampling_fraction": fraction}}})


def test_a_tag_cannot_come_and_go_at_once() -> None:
    with pytest.raises(ParameterInvalid, match="'team' is both"):
        parse_tags({"add_tags": [{"key": "team"}], "delete_tags": ["team"]})


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        pytest.param([{"key": "user"}], "A rate limit needs 'calls'", id="no calls"),
        pytest.param([{"calls": 1, "tokens": 5}], "A rate limit needs 'calls'; limits by 'tokens' are not supported.", id="tokens"),
        pytest.param([{"calls": 1, "key": "user_group", "principal": "g"}], "Rate limits for groups", id="a group"),
        pytest.param([{"calls": 1, "key": "service_principal"}], "A rate limit names a 'principal'", id="a service principal without name"),
        pytest.param([{"calls": 1, "key": "endpoint", "principal": "ada"}], "A rate limit names a 'principal'", id="an endpoint with one"),
        pytest.param([{"calls": 1, "key": "user"}, {"calls": 2, "key": "user"}], "Two rate limits are for the same", id="the same twice"),
        pytest.param([{"calls": -1}], "Invalid request: 'rate_limits.0.calls'", id="less than nothing"),
        pytest.param([{"calls": 1, "renewal_period": "hour"}], "Invalid request: 'rate_limits.0.renewal_period'", id="another period"),
        pytest.param([{"calls": 1, "key": "user", "principal": f"u{n}"} for n in range(21)], "An endpoint takes at most 20", id="too many"),
    ],
)
def test_rate_limits_nobody_would_hold_are_refused(limits: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ParameterInvalid) as refused:
        to_rate_limits(parse_rate_limits({"rate_limits": limits}))
    assert refused.value.message.startswith(message)
