"""Who scores a request, whether it is taken at all, and who waits for its answer."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.admission import QueueLimits, estimate_wait_s, should_refuse
from services.ingress.invocation import Invoked
from services.ingress.invocations import invoked_by
from services.ingress.replies import Replies
from services.ingress.traffic import PartitionTraffic, choose_entity, choose_partition, named_entity
from services.shared.endpoints import Config
from services.shared.envelope import ScoringReply, ScoringRequest
from services.shared.errors import DeadlineExceeded, EndpointNotFound
from services.shared.presence import PoolReport
from tests.unit.shared.control_log import config, created, fold

DRAWS = st.floats(0, 1, exclude_max=True)
SHARES = (
    st.lists(st.integers(0, 100), min_size=0, max_size=2)
    .map(sorted)
    .map(lambda cuts: [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)])
)


def split(shares: list[int]) -> Config:
    state = fold(created(config(*("1",) * len(shares), shares=tuple(shares))))
    pending = state.endpoints["churn"].pending
    assert pending is not None
    return pending


@given(SHARES)
def test_shares_are_kept_to_the_percent(shares: list[int]) -> None:
    chosen = Counter(choose_entity(split(shares), (n + 0.5) / 100).spec.name for n in range(100))
    assert chosen == Counter({name: share for name, share in zip("abc", shares, strict=False) if share})


@given(SHARES, DRAWS)
def test_a_share_of_nothing_is_never_drawn(shares: list[int], draw: float) -> None:
    entity = choose_entity(split(shares), draw)
    assert shares["abc".index(entity.spec.name)] > 0


@pytest.mark.parametrize(("draw", "name"), [(0.0, "a"), (0.7999, "a"), (0.8, "b"), (1 - 2**-53, "b")])
def test_the_borders_of_a_split(draw: float, name: str) -> None:
    assert choose_entity(split([80, 20]), draw).spec.name == name


def test_a_named_entity_needs_no_share() -> None:
    assert named_entity(split([100, 0]), "churn", "b").spec.name == "b"
    with pytest.raises(EndpointNotFound) as refused:
        named_entity(split([100, 0]), "churn", "z")
    assert refused.value.message == "Endpoint 'churn' has no served model with name 'z'."


@pytest.mark.parametrize(
    ("traffic", "chosen"),
    [
        pytest.param([(0, 0, ""), (0, 0, "")], 0, id="nothing is known"),
        pytest.param([(0, 1, ""), (0, 0, "")], 1, id="whose turn it is"),
        pytest.param([(2, 1, "a"), (1, 2, "b")], 1, id="the replica with less in flight"),
        pytest.param([(2, 1, "a"), (0, 3, "a"), (1, 4, "b")], 2, id="a replica's partitions count together"),
        pytest.param([(1, 4, "a"), (0, 2, "a"), (1, 3, "b")], 2, id="of equals the replica whose last turn is longest ago"),
        pytest.param([(1, 1, "a"), (0, 2, "a"), (9, 0, "b")], 1, id="of its partitions that with less in flight"),
        pytest.param([(0, 2, "a"), (0, 1, "a"), (9, 0, "b")], 1, id="or the one that waited for its turn"),
        pytest.param([(3, 1, "a"), (0, 2, "")], 1, id="a partition nobody has answered from"),
    ],
)
def test_where_a_request_goes(traffic: list[tuple[int, int, str]], chosen: int) -> None:
    partitions = range(len(traffic))
    assert choose_partition(partitions, {p: PartitionTraffic(*seen) for p, seen in enumerate(traffic)}) == chosen


@given(
    st.dictionaries(st.integers(0, 99), st.tuples(st.integers(0, 9), st.integers(0, 99), st.sampled_from("abc")), min_size=1, max_size=16)
)
def test_no_replica_has_less_in_flight_than_the_one_that_is_chosen(seen: dict[int, tuple[int, int, str]]) -> None:
    loads = Counter[str]()
    for in_flight, _, replica in seen.values():
        loads[replica] += in_flight
    chosen = choose_partition([*seen], {p: PartitionTraffic(*of) for p, of in seen.items()})
    assert loads[seen[chosen][2]] == min(loads.values())


async def test_every_partition_has_its_turn_and_a_new_owner_is_learned() -> None:
    replies, owners, went = Replies(), dict.fromkeys(range(8), "a"), []
    for number in range(48):
        if number == 24:
            owners |= {4: "b", 5: "b", 6: "b", 7: "b"}
        partition = choose_partition(range(8), replies.traffic("p"))
        with replies.expected(request(str(number)), "p", partition, 0):
            replies.settle(ScoringReply(str(number), 200, "", b""), owners[partition])
        went.append(owners[partition])
    assert {p: seen.replica for p, seen in replies.traffic("p").items()} == owners
    assert went[-8:] in (["a", "b"] * 4, ["b", "a"] * 4)
    replies.forget_pools({"q"})
    assert replies.traffic("p") == {}


LIMITS = QueueLimits(max_queue_wait_s=10.0, max_in_flight=100, deadline_s=120.0)
POOL = PoolReport(pool_id="p", wanted=1, ready=1, reason="", lag=0, evaluation_s=0.1, max_replicas=2, at_ms=1)  # 80 requests/s at most


@pytest.mark.parametrize(
    ("in_flight", "of_pool", "report", "limits", "retry_after_s"),
    [
        pytest.param(0, 0, POOL, LIMITS, None, id="an empty queue"),
        pytest.param(99, 99, POOL, LIMITS, None, id="below every limit"),
        pytest.param(100, 0, POOL, LIMITS, 1, id="the process itself is full"),
        pytest.param(0, 0, POOL.model_copy(update={"lag": 800}), LIMITS, None, id="a wait of exactly what is allowed"),
        pytest.param(0, 0, POOL.model_copy(update={"lag": 801}), LIMITS, 1, id="a little more is refused"),
        pytest.param(0, 0, POOL.model_copy(update={"lag": 8000}), LIMITS, 90, id="retry when the queue will be short enough"),
        pytest.param(
            0, 0, POOL.model_copy(update={"lag": 800}), replace(LIMITS, deadline_s=2.0), 8, id="a deadline shorter than the queue"
        ),
        pytest.param(99, 99, POOL.model_copy(update={"evaluation_s": 1.0}), LIMITS, 3, id="this process's own share counts at once"),
        pytest.param(99, 99, POOL.model_copy(update={"evaluation_s": None, "lag": 9999}), LIMITS, None, id="a pool that never scored"),
        pytest.param(99, 99, None, LIMITS, None, id="no report at all"),
        pytest.param(0, 0, POOL.model_copy(update={"lag": None}), LIMITS, None, id="an unknown lag"),
        pytest.param(
            0, 0, POOL.model_copy(update={"lag": 840, "at_ms": -999}), LIMITS, None, id="what was scored since the report is no queue"
        ),
    ],
)
def test_admission(in_flight: int, of_pool: int, report: PoolReport | None, limits: QueueLimits, retry_after_s: int | None) -> None:
    refusal = should_refuse(in_flight, of_pool, report, limits, now_ms=1)
    assert (refusal.retry_after_s if refusal else None) == retry_after_s


def test_a_wait_is_not_known_without_a_rate() -> None:
    assert estimate_wait_s(5, None) is None
    assert estimate_wait_s(80, POOL) == 1.0


def request(request_id: str) -> ScoringRequest:
    return ScoringRequest(request_id, "e1", "churn", "a", "0" * 32, "ada", 1, 2, "s", "", "text/csv", "", 1, b"")


def reply(request_id: str, status: int = 200) -> ScoringReply:
    return ScoringReply(request_id, status, "application/json", b"{}")


async def test_the_first_answer_wins_and_strangers_are_dropped() -> None:
    replies = Replies()
    with replies.expected(request("r1"), "p", 0, 5) as waiting:
        replies.settle(reply("r2"), "a")
        assert not waiting.reply.done()
        assert replies.unanswered() == [waiting]
        replies.settle(reply("r1", 200), "a")
        replies.settle(reply("r1", 500), "a")
        assert (await waiting.reply).status == 200
        assert replies.unanswered() == []
    replies.settle(reply("r1"), "a")
    assert len(replies) == 0


async def test_what_is_late_by_more_than_its_host_may_be_is_told_so() -> None:
    replies = Replies()
    late, answered = replace(request("r1"), deadline_ms=1_000), replace(request("r2"), deadline_ms=1_000)
    with replies.expected(late, "p", 0, 5) as waiting, replies.expected(answered, "p", 0, 5) as other:
        replies.settle(reply("r2"), "a")
        replies.expire(2_999)
        assert not waiting.reply.done()
        replies.expire(3_000)
        assert isinstance(waiting.reply.exception(), DeadlineExceeded)
        assert (await other.reply).status == 200


@pytest.mark.parametrize(
    ("method", "path", "invoked"),
    [
        pytest.param("POST", "/serving-endpoints/churn/invocations", Invoked("churn", None), id="the public path"),
        pytest.param("POST", "/api/2.0/serving-endpoints/churn/invocations", Invoked("churn", None), id="its twin"),
        pytest.param("POST", "/serving-endpoints/churn/served-models/a/invocations", Invoked("churn", "a"), id="one served entity"),
        pytest.param("GET", "/serving-endpoints/churn/invocations", None, id="another method"),
        pytest.param("POST", "/serving-endpoints/churn/invocations/", None, id="a slash too many"),
        pytest.param("POST", "/serving-endpoints//invocations", None, id="no name"),
        pytest.param("POST", "/serving-endpoints/a/b/invocations", None, id="a name with a slash"),
        pytest.param("POST", "/api/2.0/serving-endpoints/churn/served-models/a/invocations", None, id="a twin that does not exist"),
        pytest.param("POST", "/api/2.0/serving-endpoints", None, id="management"),
    ],
)
def test_which_paths_score(method: str, path: str, invoked: Invoked | None) -> None:
    assert invoked_by({"type": "http", "method": method, "path": path}) == invoked


async def test_what_is_in_flight_where() -> None:
    replies = Replies()
    with replies.expected(request("r1"), "p", 0, 5), replies.expected(request("r2"), "q", 3, 8):
        with replies.expected(request("r3"), "p", 1, 6):
            assert (len(replies), replies.in_flight("p"), replies.in_flight("q")) == (3, 2, 1)
            assert {p: seen.in_flight for p, seen in replies.traffic("p").items()} == {0: 1, 1: 1}
        assert {p: seen.in_flight for p, seen in replies.traffic("p").items()} == {0: 1, 1: 0}
        assert replies.routed_from(9) == 5
    assert (len(replies), replies.in_flight("p"), replies.traffic("p")[0].in_flight) == (0, 0, 0)
    assert replies.routed_from(9) == 9


async def test_a_request_that_fails_is_no_longer_waited_for() -> None:
    replies = Replies()
    with pytest.raises(RuntimeError), replies.expected(request("r1"), "p", 0, 5):
        raise RuntimeError
    assert (len(replies), replies.in_flight("p"), replies.routed_from(9)) == (0, 0, 9)
