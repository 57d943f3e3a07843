import pytest

from services.ingress.statement_routes import readable_tables
from services.shared.control_events import BatchEnded, BatchSubmitted, GatewayChanged
from tests.unit.ingress.callers import ROBOT, STATE, TOKENS, USER
from tests.unit.shared.control_log import fold

GATEWAY = {"inference_table_config": {"enabled": True, "catalog_name": "main", "schema_name": "ml", "table_name_prefix": "churn"}}
LOGGED, OF_QUERIER, OF_ROBOT = "main.ml.churn_payload", "main.ml.by_querier", "main.ml.by_robot"
WITH_TABLES = fold(
    GatewayChanged(endpoint_id="e1", gateway=GATEWAY, at_ms=9),
    BatchSubmitted(batch_id="b1", endpoint_id="e1", owner="querier", table=OF_QUERIER, at_ms=10),
    BatchSubmitted(batch_id="b2", endpoint_id="e1", owner="robot", owner_kind=ROBOT, table=OF_ROBOT, at_ms=11),
    BatchSubmitted(batch_id="b3", endpoint_id="e1", owner="robot", owner_kind=USER, table="main.ml.by_namesake", at_ms=12),
    BatchSubmitted(batch_id="b4", endpoint_id="e1", owner="ada", at_ms=13),
    BatchSubmitted(batch_id="b5", endpoint_id="e1", owner="member", table="main.ml.somebodys", at_ms=14),
    BatchSubmitted(batch_id="b6", endpoint_id="e1", owner="member", table="main.ml.not_yet", at_ms=15),
    *(BatchEnded(batch_id=batch_id, state="SUCCEEDED", at_ms=16) for batch_id in ("b1", "b2", "b3", "b4")),
    BatchEnded(batch_id="b5", state="FAILED", wrote_table=False, at_ms=17),
    state=STATE,
)


@pytest.mark.parametrize(
    ("caller", "tables"),
    [
        pytest.param("manager", [OF_QUERIER, "main.ml.by_namesake", OF_ROBOT, LOGGED], id="who manages the endpoint reads all of it"),
        pytest.param("querier", [OF_QUERIER], id="who submitted a batch reads its results"),
        pytest.param("robot", [OF_ROBOT], id="a service principal is no user of that name"),
        pytest.param("viewer", [], id="anybody else reads nothing"),
        pytest.param("member", [], id="naming a table gives nothing: a batch has none before it has written it"),
    ],
)
def test_tables_are_read_by_who_may(caller: str, tables: list[str]) -> None:
    assert readable_tables(TOKENS[caller], WITH_TABLES) == tuple(sorted(tables))
