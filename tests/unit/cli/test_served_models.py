import pytest
import typer

from services.cli.served_models import ModelVersion, Sizing, parse_model, parse_traffic, to_config

THREE, FOUR = ModelVersion("ml.prod.churn", "3"), ModelVersion("ml.prod.churn", "4")
SERVED = {"name": "churn-3", "entity_name": "ml.prod.churn", "entity_version": "3"}


@pytest.mark.parametrize(
    ("text", "model", "entity"),
    [
        pytest.param("models:/churn/3", ModelVersion("churn", "3"), "churn-3", id="a registered model"),
        pytest.param("models:/ml.prod.churn/12", ModelVersion("ml.prod.churn", "12"), "churn-12", id="of a catalog and schema"),
        pytest.param("models:/who leaves/1", ModelVersion("who leaves", "1"), "who-leaves-1", id="a name that endpoints may not have"),
    ],
)
def test_a_model_as_mlflow_writes_it(text: str, model: ModelVersion, entity: str) -> None:
    assert (parse_model(text), str(model), model.entity) == (model, text, entity)


@pytest.mark.parametrize(
    "text", ["churn", "churn/3", "models:/churn", "models:/churn/latest", "models:/churn@champion", "models:/a/b/3", ""]
)
def test_anything_else_is_no_version(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no version of a model"):
        parse_model(text)


def test_what_was_not_said_is_left_to_the_server() -> None:
    assert to_config([THREE], None, Sizing()) == {"served_entities": [SERVED]}


def test_what_was_said_is_said_of_every_entity() -> None:
    config = to_config([THREE, FOUR], "80,20", Sizing("Medium", False, ("A=b=c", "EMPTY=")))
    more = {"workload_size": "Medium", "scale_to_zero_enabled": False, "environment_vars": {"A": "b=c", "EMPTY": ""}}
    assert [entity["name"] for entity in config["served_entities"]] == ["churn-3", "churn-4"]
    assert config["served_entities"][0] == SERVED | more
    assert config["traffic_config"]["routes"] == [
        {"served_entity_name": "churn-3", "traffic_percentage": 80},
        {"served_entity_name": "churn-4", "traffic_percentage": 20},
    ]


@pytest.mark.parametrize(
    ("traffic", "variables", "said"),
    [
        pytest.param(None, (), "need their shares", id="two models without shares"),
        pytest.param("100", (), "1 shares for 2 models", id="a share is missing"),
        pytest.param("80:20", (), "are no shares", id="shares that cannot be read"),
        pytest.param("80,20", ("A",), "written NAME=VALUE", id="a variable without a value"),
        pytest.param("80,20", ("=b",), "written NAME=VALUE", id="a variable without a name"),
    ],
)
def test_what_cannot_be_meant(traffic: str | None, variables: tuple[str, ...], said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        to_config([THREE, FOUR], traffic, Sizing(variables=variables))


def test_a_value_that_may_be_a_secret_is_not_repeated() -> None:
    with pytest.raises(typer.BadParameter) as refused:
        to_config([THREE], None, Sizing(variables=("=hunter2",)))
    assert "hunter2" not in str(refused.value)


def test_the_sum_of_shares_is_the_servers_to_judge() -> None:
    assert parse_traffic("0,30") == [0, 30]
