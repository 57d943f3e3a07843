"""Whom submitted records go to, and what makes them wait."""

from collections import Counter
from dataclasses import replace

import pytest

from services.ingress.destinations import NotServing
from services.ingress.rate_limiter import RateLimiter
from services.ingress.submissions.record_ids import id_of_record
from services.ingress.submissions.routing import Routing
from services.shared.control_events import EndpointDeleted, EndpointStopped, GatewayChanged, RateLimit, RateLimitsChanged, SamplingChanged
from services.shared.endpoints import ControlState, Token
from services.shared.envelope import ScoringRequest
from services.shared.errors import EndpointNotFound, PoolNotReady, RateLimited, ServingError
from services.shared.redis_clients import new_redis
from services.shared.settings import RedisSettings
from tests.unit.ingress.submissions.test_submitted import request_of
from tests.unit.shared.control_log import config, created, fold, ready

SPLIT = fold(created(config("1", "2", shares=(80, 20))), ready("a"), ready("b"))
LOGGED = GatewayChanged(
    endpoint_id="e1",
    gateway={"inference_table_config": {"catalog_name": "main", "schema_name": "ml", "table_name_prefix": "churn"}},
    at_ms=5,
)


def routing(at_s: float = 30.0, workspace: int = 1_000) -> Routing:
    limiter = RateLimiter(new_redis(RedisSettings(url="redis://127.0.0.1:1")), workspace, 10, lambda: at_s)
    return Routing(limiter, Token("", "ada"))


def request(number: int) -> ScoringRequest:
    return replace(request_of(), request_id=id_of_record("t", 0, number, 1))


def test_the_split_holds_and_what_comes_again_goes_the_same_way() -> None:
    first, again = routing(), routing()
    pools = [first.address(request(number), SPLIT)[0] for number in range(1_000)]
    assert pools == [again.address(request(number), SPLIT)[0] for number in range(1_000)]
    assert 150 < Counter(pools)["e1-b-1"] < 250


def test_a_request_gets_what_its_host_and_its_row_need() -> None:
    state = fold(LOGGED, state=SPLIT)
    pool_id, addressed = routing().address(request(1), state)
    entity = state.pools[pool_id]
    assert addressed == replace(
        request(1), entity=entity.spec.name, served_entity_id=entity.served_entity_id, table="main.ml.churn_payload"
    )


def test_a_share_of_the_requests_is_logged_of_each_entity_and_what_comes_again_is_logged_again() -> None:
    state = fold(LOGGED, SamplingChanged(endpoint_id="e1", sampling_fraction=0.25, at_ms=6), state=SPLIT)
    first, again = routing(), routing()
    addressed = [first.address(request(number), state)[1] for number in range(2_000)]
    assert addressed == [again.address(request(number), state)[1] for number in range(2_000)]
    assert {each.sampling_fraction for each in addressed} == {0.25}
    asked, logged = Counter(each.entity for each in addressed), Counter(each.entity for each in addressed if each.table)
    assert all(0.18 < logged[entity] / asked[entity] < 0.32 for entity in ("a", "b"))


@pytest.mark.parametrize(("fraction", "logged"), [(None, 100), (1.0, 100), (0.0, 0)])
def test_all_or_none_of_the_requests_are_logged(fraction: float | None, logged: int) -> None:
    state = fold(LOGGED, SamplingChanged(endpoint_id="e1", sampling_fraction=fraction, at_ms=6), state=SPLIT)
    everything = routing()
    assert sum(bool(everything.address(request(number), state)[1].table) for number in range(100)) == logged


def test_an_endpoints_limit_holds_and_the_workspaces_is_for_others() -> None:
    limits = RateLimitsChanged(endpoint_id="e1", rate_limits=(RateLimit(calls=2, key="user"),), at_ms=5)
    limited, spending = fold(limits, state=SPLIT), routing(workspace=1)
    for number in range(2):
        spending.address(request(number), limited)
    with pytest.raises(RateLimited) as refused:
        spending.address(request(2), limited)
    assert refused.value.retry_after_s == 30, "until the minute is over"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        pytest.param(fold(created(config("1"))), PoolNotReady, id="it is being made"),
        pytest.param(fold(EndpointStopped(endpoint_id="e1", based_on=1, at_ms=5), state=SPLIT), NotServing, id="it is stopped"),
        pytest.param(fold(EndpointDeleted(endpoint_id="e1", at_ms=5), state=SPLIT), EndpointNotFound, id="it is gone"),
        pytest.param(
            fold(EndpointDeleted(endpoint_id="e1", at_ms=5), created(config("1"), endpoint_id="e2"), ready("a", 1, "e2"), state=SPLIT),
            EndpointNotFound,
            id="another one has its name",
        ),
    ],
)
def test_what_cannot_go_anywhere_waits(state: ControlState, error: type[ServingError]) -> None:
    with pytest.raises(error):
        routing().address(request(1), state)
