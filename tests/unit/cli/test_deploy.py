"""What `penstock deploy` makes of the endpoint that is there, and of its description."""

from typing import Any

import pytest

from services.cli.deploy import next_config
from services.cli.example_input import example_body
from services.cli.failures import StackFailure
from services.cli.served_models import ModelVersion, Sizing
from services.ingress.openapi import openapi_of
from services.ingress.signatures import Column, Signature
from services.shared.control_events import ConfigSpec, EntitySpec, Route, TableConfig
from tests.unit.cli.endpoint_objects import endpoint_after
from tests.unit.shared.control_log import config, created, fold, ready

FOUR = ModelVersion("churn", "4")
NEW = {"name": "churn-4", "entity_name": "churn", "entity_version": "4"}
AS_IT_COMES = {"workload_type": "CPU", "scale_to_zero_enabled": False}


def served(**more: Any) -> dict[str, Any]:
    spec = EntitySpec(name="a", model_name="churn", model_version="3", **more)
    table = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="churn", enabled=True)
    whole = ConfigSpec(entities=(spec,), routes=(Route(entity="a", traffic_percentage=100),), auto_capture=table)
    return endpoint_after(created(whole), ready("a"))


@pytest.mark.parametrize(
    ("before", "sizing", "entity"),
    [
        pytest.param({}, Sizing(), AS_IT_COMES | {"workload_size": "Small"}, id="a size is kept"),
        pytest.param(
            {"min_provisioned_concurrency": 4, "max_provisioned_concurrency": 8, "scale_to_zero_enabled": True},
            Sizing(),
            AS_IT_COMES | {"min_provisioned_concurrency": 4, "max_provisioned_concurrency": 8, "scale_to_zero_enabled": True},
            id="concurrency and scale to zero are kept",
        ),
        pytest.param(
            {"min_provisioned_concurrency": 4, "max_provisioned_concurrency": 8},
            Sizing("Large", scale_to_zero=True),
            AS_IT_COMES | {"workload_size": "Large", "scale_to_zero_enabled": True},
            id="a new size takes the place of the old concurrency",
        ),
        pytest.param(
            {"environment_vars": {"A": "sealed"}},
            Sizing(variables=("B=1",)),
            AS_IT_COMES | {"workload_size": "Small", "environment_vars": {"B": "1"}},
            id="new variables take the place of the old",
        ),
        pytest.param(
            {"environment_vars": {"A": "sealed"}, "secret_references": {"A": "{{secrets/prod/db}}"}},
            Sizing(),
            AS_IT_COMES | {"workload_size": "Small", "environment_vars": {"A": "{{secrets/prod/db}}"}},
            id="references to secrets are kept",
        ),
    ],
)
def test_the_next_version_runs_as_the_one_before(before: dict[str, Any], sizing: Sizing, entity: dict[str, Any]) -> None:
    body = next_config(FOUR, served(**before), sizing)
    assert body["served_entities"] == [NEW | entity]
    assert body["auto_capture_config"] == {"catalog_name": "main", "schema_name": "ml", "table_name_prefix": "churn", "enabled": True}


def test_variables_are_not_lost_without_a_word() -> None:
    with pytest.raises(StackFailure, match="runs with A, B, whose values nobody can read back"):
        next_config(FOUR, served(environment_vars={"B": "sealed", "A": "sealed"}), Sizing())


def test_an_endpoint_that_never_served_keeps_what_was_asked_of_it() -> None:
    assert next_config(FOUR, endpoint_after(created(config("3"))), Sizing())["served_entities"] == [
        NEW | AS_IT_COMES | {"workload_size": "Small"}
    ]


def described(*columns: dict[str, Any]) -> dict[str, Any]:
    signature = Signature(inputs=[Column.model_validate(column) for column in columns])
    return openapi_of(fold(created(config("1")), ready("a")).endpoint("churn"), "http://h", {"a": signature})


def tensor(*shape: int) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": list(shape)}}


@pytest.mark.parametrize(
    ("columns", "body"),
    [
        pytest.param(
            [{"name": "x", "type": "double"}, {"name": "n", "type": "long", "required": False}, {"name": "ok", "type": "boolean"}],
            '{"dataframe_records": [{"x": 1.0, "n": 1, "ok": true}]}',
            id="a value of each column's type",
        ),
        pytest.param(
            [{"name": "at", "type": "datetime"}, {"name": "b", "type": "binary"}, {"name": "s", "type": "string"}],
            '{"dataframe_records": [{"at": "2026-01-31T12:00:00", "b": "", "s": "text"}]}',
            id="texts",
        ),
        pytest.param(
            [{"name": "l", "type": "array", "items": {"type": "long"}}],
            '{"dataframe_records": [{"l": [1]}]}',
            id="an array",
        ),
        pytest.param([tensor(-1, 2)], '{"inputs": [[1.0, 1.0]]}', id="a tensor of one row"),
        pytest.param([tensor(-1, 224, 224, 3)], None, id="a picture is no example"),
        pytest.param([{"name": f"column_{i}", "type": "double"} for i in range(200)], None, id="too long to paste"),
    ],
)
def test_the_example_is_a_row_that_the_model_takes(columns: list[dict[str, Any]], body: str | None) -> None:
    assert example_body(described(*columns), "a") == body


def test_what_is_not_described_has_no_example() -> None:
    assert example_body(described(tensor(-1)), "another") is None
