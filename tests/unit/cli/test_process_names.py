import pytest

from services.cli.process_names import names_meant, names_to_offer, parse_replica, replica_order, short_name, shortened

ENDPOINT = "5e090088725d4ea69812363f5619cfd1"


@pytest.mark.parametrize(
    ("process", "short"),
    [
        pytest.param(f"scorer-{ENDPOINT}-fraud-1-2-0", "scorer fraud-1 (replica 0)", id="a replica"),
        pytest.param(f"scorer-{ENDPOINT}-a-b-7-12-3", "scorer a-b-7 (replica 3)", id="an entity's name may hold dashes and digits"),
        pytest.param(f"scorer-{ENDPOINT}-fraud-1-2-refusing", "scorer fraud-1 (refusing)", id="the host of a retired pool"),
        pytest.param(f"build-{ENDPOINT}-fraud-1-2", "build fraud-1", id="the log of a build"),
        pytest.param("ingress-0", "ingress-0", id="a process of the stack itself"),
    ],
)
def test_short_name(process: str, short: str) -> None:
    assert short_name(process) == short


@pytest.mark.parametrize(
    "asked",
    [
        "scorer",
        "fraud-1",
        ENDPOINT,
        f"{ENDPOINT}-fraud-1-2",
        f"{ENDPOINT}-fraud-1-2-0",
        f"scorer-{ENDPOINT}-fraud-1-2-0",
        "scorer fraud-1 (replica 0)",
    ],
)
def test_a_replica_answers_to_its_service_entity_endpoint_pool_and_id(asked: str) -> None:
    assert asked in names_meant(f"scorer-{ENDPOINT}-fraud-1-2-0")
    assert "fraud" not in names_meant(f"scorer-{ENDPOINT}-fraud-1-2-0")


def test_what_is_offered_is_short() -> None:
    logs = ["ingress-0", "kafka", f"scorer-{ENDPOINT}-fraud-1-2-0", f"scorer-{ENDPOINT}-fraud-1-2-1", f"build-{ENDPOINT}-fraud-1-2"]
    assert names_to_offer(logs) == ["build", "fraud-1", "ingress-0", "kafka", "scorer"]


def test_replicas_of_one_entity_stand_together_older_configs_first_and_numbers_as_numbers() -> None:
    tails = ["a-1-2-0", "a-1-10-0", "a-1-10-2", "a-1-10-10", "a-1-10-refusing", "b-1-1-0"]
    replicas = [replica for tail in reversed(tails) if (replica := parse_replica(f"scorer-{ENDPOINT}-{tail}"))]
    assert sorted(replicas, key=replica_order) == replicas[::-1]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        pytest.param(20, "churn_classifier-12", id="it fits"),
        pytest.param(12, "churn_c…r-12", id="the version at its end stays"),
        pytest.param(3, "c…2", id="the narrowest"),
    ],
)
def test_shortened(room: int, shown: str) -> None:
    assert shortened("churn_classifier-12", room) == shown
    assert len(shown) <= room
