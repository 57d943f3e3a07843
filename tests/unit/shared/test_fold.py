"""The fold, event by event."""

import pytest

from services.shared.control_events import (
    ControlEvent,
    EndpointDeleted,
    EndpointStarted,
    EndpointStopped,
    GatewayChanged,
    PoolRemoved,
    RateLimit,
    RateLimitsChanged,
    SamplingChanged,
    TableConfig,
    TagsChanged,
    TokenCreated,
    TokenRevoked,
    UpdateCanceled,
    decode_event,
    encode_event,
)
from services.shared.endpoints import REMEMBERED_VERDICTS, ConfigUpdate, ControlState, Deployment, Token, apply_event, served_entity_id
from services.shared.errors import AlreadyExists, Conflict, EndpointNotFound, QuotaExceeded
from tests.unit.shared.control_log import config, created, failed, fold, ready, requested

SERVING = fold(created(config("1")), ready("a"))
TABLE = TableConfig(catalog_name="main", schema_name="ml", table_name_prefix="churn")


def deployments(state: ControlState) -> dict[str, Deployment]:
    pending = state.endpoints["churn"].pending
    assert pending is not None
    return {name: entity.deployment for name, entity in pending.entities.items()}


def test_a_new_endpoint_serves_nothing_and_deploys_its_first_version() -> None:
    endpoint = fold(created(config("1"))).endpoints["churn"]
    assert (endpoint.active, endpoint.update, endpoint.latest_version) == (None, ConfigUpdate.IN_PROGRESS, 1)
    assert endpoint.pending is not None
    assert endpoint.pending.entities["a"].deployment is Deployment.CREATING


def test_a_config_serves_only_when_all_its_entities_are_ready() -> None:
    half = fold(created(config("1", "2")), ready("a"))
    assert half.endpoints["churn"].active is None
    done = fold(ready("b"), state=half).endpoints["churn"]
    assert (done.update, done.pending) == (ConfigUpdate.NOT_UPDATING, None)
    assert done.active is not None
    assert set(done.active.entities) == {"a", "b"}


def test_a_traffic_only_update_serves_at_once_and_keeps_the_pools() -> None:
    before = fold(created(config("1", "2")), ready("a"), ready("b"))
    after = fold(requested(config("1", "2", shares=(50, 50)), 1), state=before)
    old, new = before.endpoints["churn"].active, after.endpoints["churn"].active
    assert old is not None
    assert new is not None
    assert new.version == 2
    assert {e.pool_id for e in new.entities.values()} == {e.pool_id for e in old.entities.values()}
    assert after.pools == before.pools


def test_an_update_of_one_entity_makes_one_pool_and_retires_the_old_one_when_it_serves() -> None:
    before = fold(created(config("1", "2")), ready("a"), ready("b"))
    during = fold(requested(config("1", "3"), 1), state=before)
    assert set(during.pools) == {"e1-a-1", "e1-b-1", "e1-b-2"}
    assert all(pool.retired_at is None for pool in during.pools.values())
    switched_at = during.next_offset
    after = fold(ready("b", version=2), state=during)
    assert {i: p.retired_at for i, p in after.pools.items()} == {"e1-a-1": None, "e1-b-1": switched_at, "e1-b-2": None}


def test_a_failed_update_names_the_culprit_aborts_its_siblings_and_leaves_the_old_config_serving() -> None:
    during = fold(requested(config("2", "3"), 1), state=SERVING)
    after = fold(failed("b", version=2), state=during)
    endpoint = after.endpoints["churn"]
    assert endpoint.active == SERVING.endpoints["churn"].active
    assert endpoint.update is ConfigUpdate.UPDATE_FAILED
    assert deployments(after) == {"a": Deployment.ABORTED, "b": Deployment.FAILED}
    assert endpoint.pending is not None
    assert endpoint.pending.entities["b"].message == "no such package"
    assert [i for i, p in after.pools.items() if p.retired_at is None] == ["e1-a-1"]


def test_a_timed_out_entity_is_aborted_not_failed() -> None:
    assert deployments(fold(failed("a", timed_out=True), state=fold(created(config("1"))))) == {"a": Deployment.ABORTED}


def test_a_failed_update_can_be_followed_by_another() -> None:
    broken = fold(requested(config("2"), 1), failed("a", version=2), state=SERVING)
    again = fold(requested(config("2"), 2), ready("a", version=3), state=broken).endpoints["churn"]
    assert again.active is not None
    assert (again.active.version, again.update) == (3, ConfigUpdate.NOT_UPDATING)


def canceled(version: int) -> UpdateCanceled:
    return UpdateCanceled(endpoint_id="e1", version=version, at_ms=5)


def test_a_canceled_update_leaves_the_old_config_serving_and_retires_the_new_pools() -> None:
    during = fold(requested(config("2"), 1), state=SERVING)
    after = fold(canceled(2), state=during)
    endpoint = after.endpoints["churn"]
    assert (endpoint.active, endpoint.update) == (SERVING.endpoints["churn"].active, ConfigUpdate.UPDATE_CANCELED)
    assert deployments(after) == {"a": Deployment.ABORTED}
    assert [i for i, p in after.pools.items() if p.retired_at is None] == ["e1-a-1"]
    again = fold(requested(config("2"), 2), ready("a", version=3), state=after).endpoints["churn"]
    assert again.active is not None
    assert (again.active.version, again.update) == (3, ConfigUpdate.NOT_UPDATING)


def test_a_late_report_about_a_canceled_update_changes_nothing() -> None:
    after = fold(canceled(2), state=fold(requested(config("2"), 1), state=SERVING))
    assert fold(ready("a", version=2), state=after).endpoints == after.endpoints


def test_tags_are_taken_away_and_then_added_or_replaced() -> None:
    tagged = fold(TagsChanged(endpoint_id="e1", added=(("team", "core"), ("old", None)), at_ms=5), state=SERVING)
    after = fold(TagsChanged(endpoint_id="e1", added=(("team", "ml"), ("tier", "1")), removed=("old", "unknown"), at_ms=6), state=tagged)
    endpoint = after.endpoints["churn"]
    assert (endpoint.tags, endpoint.updated_ms) == ((("team", "ml"), ("tier", "1")), 6)


def test_the_name_of_a_deleted_endpoint_is_free_at_once_and_its_pools_retire() -> None:
    state = fold(EndpointDeleted(endpoint_id="e1", at_ms=5), created(config("1"), endpoint_id="e2"), state=SERVING)
    assert state.endpoints["churn"].endpoint_id == "e2"
    assert {i: p.retired_at is None for i, p in state.pools.items()} == {"e1-a-1": False, "e2-a-1": True}


UPDATING = fold(requested(config("2"), 1), state=SERVING)


@pytest.mark.parametrize(
    ("state", "event", "refusal"),
    [
        pytest.param(SERVING, created(config("1"), endpoint_id="e2"), AlreadyExists, id="a second endpoint of one name"),
        pytest.param(UPDATING, requested(config("3"), 2), Conflict, id="a second update while one runs"),
        pytest.param(SERVING, requested(config("3"), 0), Conflict, id="an update decided on a version that is gone"),
        pytest.param(SERVING, requested(config("3"), 1, endpoint_id="e9"), EndpointNotFound, id="an update of an older life of the name"),
        pytest.param(SERVING, ready("a"), Conflict, id="a report when nothing is pending"),
        pytest.param(UPDATING, ready("a", version=1), Conflict, id="a report about another version"),
        pytest.param(UPDATING, ready("z", version=2), Conflict, id="a report about an entity the config has not"),
        pytest.param(fold(failed("a", version=2), state=UPDATING), ready("a", version=2), Conflict, id="good news after the failure"),
        pytest.param(ControlState(), EndpointDeleted(endpoint_id="e1", at_ms=1), EndpointNotFound, id="a delete of what is not there"),
        pytest.param(SERVING, UpdateCanceled(endpoint_id="e1", version=1, at_ms=1), Conflict, id="a cancel without an update"),
        pytest.param(fold(requested(config("2"), 1), state=SERVING), canceled(1), Conflict, id="a cancel of another update"),
        pytest.param(ControlState(), TagsChanged(endpoint_id="e1", at_ms=1), EndpointNotFound, id="tags of nobody"),
        pytest.param(ControlState(), GatewayChanged(endpoint_id="e1", gateway={}, at_ms=1), EndpointNotFound, id="a gateway of nobody"),
        pytest.param(SERVING, PoolRemoved(pool_id="e1-a-1", at_ms=1), Conflict, id="the removal of a pool in service"),
    ],
)
def test_the_fold_refuses(state: ControlState, event: ControlEvent, refusal: type[Exception]) -> None:
    after = fold(event, state=state)
    assert type(after.verdicts[event.event_id]) is refusal
    assert (after.endpoints, after.pools, after.tokens) == (state.endpoints, state.pools, state.tokens)
    assert after.next_offset == state.next_offset + 1


FAILED = fold(created(config("1")), failed("a"))
STOPPED = fold(EndpointStopped(endpoint_id="e1", based_on=1, at_ms=5), state=SERVING)
CROWDED = fold(created(config("1"), "fraud", "e2"), state=STOPPED)
DELETED = fold(EndpointDeleted(endpoint_id="e1", at_ms=5), state=SERVING)


def limited(event: ControlEvent, quota: int) -> ControlEvent:
    return event.model_copy(update={"quota": quota})


@pytest.mark.parametrize(
    ("state", "event", "fits"),
    [
        pytest.param(ControlState(), limited(created(config("1", "2")), 8), True, id="all there is"),
        pytest.param(ControlState(), limited(created(config("1", "2")), 7), False, id="more than there is"),
        pytest.param(ControlState(), created(config("1", "2")), True, id="an event that knows of no quota"),
        pytest.param(SERVING, limited(created(config("1"), "fraud", "e2"), 7), False, id="the second of two creates that fit one by one"),
        pytest.param(SERVING, limited(requested(config("2"), 1), 4), True, id="an update takes the place of what serves"),
        pytest.param(SERVING, limited(requested(config("1", "2"), 1), 4), False, id="an update that grows beyond it"),
        pytest.param(SERVING, limited(requested(config("2"), 1), 2), True, id="an update that takes no more, over a quota made smaller"),
        pytest.param(FAILED, limited(created(config("1"), "fraud", "e2"), 4), True, id="what failed to deploy takes nothing"),
        pytest.param(STOPPED, limited(created(config("1"), "fraud", "e2"), 4), True, id="nor does what is stopped"),
        pytest.param(CROWDED, limited(EndpointStarted(endpoint_id="e1", based_on=1, at_ms=7), 4), False, id="a start takes its place"),
        pytest.param(DELETED, limited(created(config("1")), 4), True, id="nor does what was deleted"),
    ],
)
def test_provisioned_concurrency_is_held_to_the_quota_of_the_event(state: ControlState, event: ControlEvent, fits: bool) -> None:
    after = fold(event, state=state)
    verdict = after.verdicts[event.event_id]
    assert isinstance(verdict, QuotaExceeded) is not fits
    if not fits:
        assert verdict is not None
        assert verdict.message.startswith("Workspace exceeded provisioned concurrency quota: ")
        assert (after.endpoints, after.pools) == (state.endpoints, state.pools)


def test_rate_limits_change_nothing_else_of_the_gateway() -> None:
    table, limits = {"inference_table_config": TABLE.model_dump()}, (RateLimit(calls=5, key="user"),)
    changed = RateLimitsChanged(endpoint_id="e1", rate_limits=limits, at_ms=2)
    with_table = fold(GatewayChanged(endpoint_id="e1", gateway=table, at_ms=1), state=SERVING)
    endpoint = fold(changed, state=with_table).endpoints["churn"]
    assert endpoint.rate_limits == limits
    assert endpoint.table == TABLE
    cleared = fold(changed, RateLimitsChanged(endpoint_id="e1", rate_limits=(), at_ms=3), state=with_table)
    assert cleared.endpoints["churn"].gateway == table


def test_a_repeated_event_gets_the_first_verdict() -> None:
    event = requested(config("2"), 1)
    once = fold(event, state=SERVING)
    twice = fold(event, state=once)
    assert twice.verdicts == once.verdicts
    assert twice.endpoints == once.endpoints


def test_an_offset_that_was_folded_changes_nothing() -> None:
    assert apply_event(SERVING, 0, EndpointDeleted(endpoint_id="e1", at_ms=5)) is SERVING


def test_a_record_that_is_no_event_only_moves_the_offset() -> None:
    assert fold(None, state=SERVING).next_offset == SERVING.next_offset + 1
    assert fold(None, state=SERVING).endpoints == SERVING.endpoints


def test_a_gap_in_the_offsets_is_followed() -> None:
    assert apply_event(SERVING, 100, None).next_offset == 101


def test_only_so_many_verdicts_are_remembered() -> None:
    events = [TokenRevoked(token_id="t", at_ms=1) for _ in range(REMEMBERED_VERDICTS + 5)]
    verdicts = fold(*events).verdicts
    assert list(verdicts) == [event.event_id for event in events[5:]]


def test_a_revoked_token_is_gone_and_others_stay() -> None:
    made = [TokenCreated(token_id=i, sha256=i * 32, principal=i, at_ms=1) for i in ("aa", "bb")]
    assert fold(*made, TokenRevoked(token_id="aa", at_ms=2)).tokens == {"bb" * 32: Token("bb", "bb", created_ms=1)}


def test_a_removed_pool_is_forgotten_once_it_was_retired() -> None:
    gone = fold(EndpointDeleted(endpoint_id="e1", at_ms=5), PoolRemoved(pool_id="e1-a-1", at_ms=6), state=SERVING)
    assert gone.pools == {}


@pytest.mark.parametrize(
    ("gateway", "capture", "table"),
    [
        pytest.param({}, None, None, id="no table by default"),
        pytest.param({}, TABLE, "main.ml.churn_payload", id="auto capture switches it on"),
        pytest.param({"inference_table_config": TABLE.model_dump()}, None, "main.ml.churn_payload", id="so does the gateway"),
        pytest.param({"inference_table_config": {**TABLE.model_dump(), "enabled": False}}, None, None, id="a table switched off is none"),
        pytest.param({}, TABLE.model_copy(update={"enabled": False}), None, id="auto capture switched off is none"),
    ],
)
def test_the_inference_table_of_an_endpoint(gateway: dict[str, object], capture: TableConfig | None, table: str | None) -> None:
    spec = config("1").model_copy(update={"auto_capture": capture})
    state = fold(created(spec), ready("a"), GatewayChanged(endpoint_id="e1", gateway=gateway, at_ms=7))
    found = state.endpoints["churn"].table
    assert (found.full_name if found else None) == table


@pytest.mark.parametrize(
    "event",
    [
        created(config("1", "2")),
        requested(config("1"), 1),
        ready("a"),
        failed("a"),
        EndpointDeleted(endpoint_id="e1", at_ms=1),
        GatewayChanged(endpoint_id="e1", gateway={"inference_table_config": TABLE.model_dump()}, at_ms=1),
        RateLimitsChanged(endpoint_id="e1", rate_limits=(RateLimit(calls=5, key="user"),), at_ms=1),
        SamplingChanged(endpoint_id="e1", sampling_fraction=0.25, at_ms=1),
        PoolRemoved(pool_id="p", at_ms=1),
        TokenCreated(token_id="t", sha256="0" * 64, principal="ada", at_ms=1),
        TokenRevoked(token_id="t", at_ms=1),
    ],
    ids=lambda event: f"{type(event).__name__} survives the log",
)
def test_events_survive_the_log(event: ControlEvent) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "record", [b"", b"{}", b"\xff", b"[]", b'{"type":"Unheard"}'], ids=["nothing", "no type", "no UTF-8", "a list", "unheard of"]
)
def test_what_is_no_event_is_a_value_error(record: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic's own subclass is not promised
        decode_event(record)


def test_served_entity_ids_stay_what_they_are() -> None:
    assert served_entity_id("e1-a-1") == served_entity_id("e1-a-1")
    assert len({served_entity_id(f"e1-a-{n}") for n in range(100)}) == 100
