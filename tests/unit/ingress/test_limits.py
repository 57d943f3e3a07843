"""How often somebody may call, and when again."""

import pytest
from redis.asyncio import Redis

from services.ingress.destinations import Destination
from services.ingress.limits import Limit, Meter, limits_on, workspace_limit
from services.ingress.rate_limiter import RateLimiter
from services.shared.control_events import PrincipalKind, RateLimit
from services.shared.endpoints import Token
from services.shared.errors import RateLimited

IN_ALL = RateLimit(calls=100, key="endpoint")
EVERYONE = RateLimit(calls=10, key="user")
ADA = RateLimit(calls=50, key="user", principal="ada")
USERS = {name: Token("t", name) for name in ("ada", "bob", "carol")}
ROBOTS = {
    "robot": Token("t", "robot", PrincipalKind.SERVICE_PRINCIPAL),
    "ada the robot": Token("t", "ada", PrincipalKind.SERVICE_PRINCIPAL),
}
CALLERS = USERS | ROBOTS
ROBOT = RateLimit(calls=60, key="service_principal", principal="robot")


def destination(*limits: RateLimit) -> Destination:
    return Destination("e1", "churn", "a", "s", "e1-a-1", "", limits)


@pytest.mark.parametrize(
    ("limits", "caller", "held_to"),
    [
        pytest.param((), "ada", {}, id="none"),
        pytest.param((IN_ALL,), "ada", {"e1:endpoint": 100}, id="all callers share the endpoint's"),
        pytest.param((EVERYONE,), "ada", {"e1:user:ada": 10}, id="each caller has one of their own"),
        pytest.param((EVERYONE, ADA), "ada", {"e1:user:ada": 50}, id="the one that names the caller goes before it"),
        pytest.param((EVERYONE, ADA), "bob", {"e1:user:bob": 10}, id="and is nobody else's"),
        pytest.param((ADA,), "bob", {}, id="who is not named has none"),
        pytest.param((IN_ALL, ROBOT), "robot", {"e1:endpoint": 100, "e1:service_principal:robot": 60}, id="a service principal"),
        pytest.param((EVERYONE, ADA), "ada the robot", {"e1:service_principal:ada": 10}, id="who has a user's name and is none"),
    ],
)
def test_the_limits_a_caller_is_under(limits: tuple[RateLimit, ...], caller: str, held_to: dict[str, int]) -> None:
    assert {limit.key: limit.calls for limit in limits_on(destination(*limits), CALLERS[caller])} == held_to


@pytest.mark.parametrize(
    ("limit", "at_s", "retry_after_s"),
    [
        pytest.param(workspace_limit(200), 7.25, 1, id="the rest of a second is a second"),
        pytest.param(Limit("k", 1, 60, ""), 120.0, 60, id="a whole minute at its start"),
        pytest.param(Limit("k", 1, 60, ""), 150.5, 30, id="what is left of it, rounded up"),
        pytest.param(Limit("k", 1, 60, ""), 179.9, 1, id="never none"),
    ],
)
def test_when_to_call_again(limit: Limit, at_s: float, retry_after_s: int) -> None:
    meter = Meter(limit)
    assert meter.retry_after_s(at_s) == retry_after_s
    assert not meter.is_spent(at_s)
    meter.fresh = limit.calls
    assert meter.is_spent(at_s)
    assert not meter.is_spent(at_s + retry_after_s)


def test_what_others_spent_counts_and_late_news_do_not() -> None:
    meter = Meter(Limit("k", 10, 1, ""))
    assert not meter.is_spent(5.0)
    meter.fresh = 4
    meter.told(5, fresh=3, total=9)
    assert (meter.known, meter.fresh, meter.is_spent(5.9)) == (9, 1, True)
    assert not meter.is_spent(6.0)
    meter.told(5, fresh=1, total=10)
    assert not meter.is_spent(6.0)


def test_a_refused_call_counts_against_no_other_limit() -> None:
    limiter = RateLimiter(Redis(), queries_per_s=2, changes_per_5_min=50, clock=lambda: 90.0)
    of_ada = destination(RateLimit(calls=1, key="user"))
    limiter.spend(of_ada, USERS["ada"])
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            limiter.spend(of_ada, USERS["ada"])
        assert (refused.value.code, refused.value.retry_after_s) == ("REQUEST_LIMIT_EXCEEDED", 30)
        assert refused.value.message == "Too Many Requests: endpoint 'churn' is limited to 1 call per minute of each caller."
    limiter.spend(of_ada, USERS["bob"])
    with pytest.raises(RateLimited, match="this workspace is limited to 2 requests per second"):
        limiter.spend(destination(), USERS["carol"])


def test_a_change_of_the_endpoint_keeps_what_was_spent() -> None:
    limiter = RateLimiter(Redis(), queries_per_s=9, changes_per_5_min=50, clock=lambda: 90.0)
    limiter.spend(destination(RateLimit(calls=1, key="endpoint")), USERS["ada"])
    with pytest.raises(RateLimited):
        limiter.spend(destination(RateLimit(calls=1, key="endpoint")), USERS["ada"])  # made anew by the next snapshot
