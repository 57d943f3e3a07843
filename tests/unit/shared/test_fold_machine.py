"""The fold under any order and any repeats of events, as a state machine."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.shared.control_events import (
    ControlEvent,
    EndpointDeleted,
    EndpointStarted,
    EndpointStopped,
    EntityFailed,
    GatewayChanged,
    PoolRemoved,
    UpdateCanceled,
    decode_event,
    encode_event,
)
from services.shared.endpoints import ConfigUpdate, ControlState, Deployment, Endpoint, apply_event
from tests.unit.shared.control_log import config, created, ready, requested

NAMES = st.sampled_from(["churn", "fraud"])
ENDPOINTS = st.sampled_from([f"e{n}" for n in range(1, 6)])
ENTITIES = st.sampled_from(["a", "b"])
CONFIGS = st.builds(
    lambda versions, first: config(*versions, shares=(100,) if len(versions) == 1 else (first, 100 - first)),
    st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=2),
    st.integers(0, 100),
)


class Fold(RuleBasedStateMachine):
    """One process folds as the log grows; another gets deliveries twice and starts over from the log's beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[ControlEvent] = []
        self.state = ControlState()
        self.before = ControlState()
        self.accepted: set[str] = set()
        self.retired: dict[str, int] = {}
        self.removed: set[str] = set()
        self.versions: dict[str, int] = {}
        self.made = 0

    @initialize()
    def empty(self) -> None:
        assert self.state == ControlState()

    def append(self, event: ControlEvent) -> None:
        self.log.append(event)
        self.before = self.state
        self.state = apply_event(self.state, len(self.log) - 1, decode_event(encode_event(event)))
        accepted = self.state.verdicts[event.event_id] is None
        if event.event_id in self.before.verdicts:
            assert accepted == (event.event_id in self.accepted), "a repeat gets the first verdict"
        if not accepted or event.event_id in self.before.verdicts:
            assert (self.state.endpoints, self.state.pools) == (self.before.endpoints, self.before.pools), (
                "refused or repeated changes nothing"
            )
        if accepted:
            self.accepted.add(event.event_id)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return self.state.endpoint_by_id(endpoint_id)

    @rule(name=NAMES, spec=CONFIGS)
    def create(self, name: str, spec: object) -> None:
        self.made += 1
        taken = name in self.state.endpoints
        event = created(spec, name, f"e{self.made}")  # type: ignore[arg-type]
        self.append(event)
        assert (self.state.verdicts[event.event_id] is None) is not taken

    @rule(endpoint=ENDPOINTS, spec=CONFIGS, stale=st.integers(0, 1))
    def request(self, endpoint: str, spec: object, stale: int) -> None:
        current = self.endpoint(endpoint)
        based_on = (current.latest_version if current else 1) - stale
        event = requested(spec, based_on, endpoint)  # type: ignore[arg-type]
        self.append(event)
        wanted = current is not None and not stale and current.update is not ConfigUpdate.IN_PROGRESS
        assert (self.state.verdicts[event.event_id] is None) is wanted
        if wanted:
            after = self.endpoint(endpoint)
            assert after is not None
            newest = after.pending or after.active
            assert newest is not None
            assert newest.spec == spec, "an accepted event is never lost"

    @rule(endpoint=ENDPOINTS, entity=ENTITIES, old=st.integers(0, 1))
    def report_ready(self, endpoint: str, entity: str, old: int) -> None:
        current = self.endpoint(endpoint)
        self.append(ready(entity, (current.latest_version if current else 1) - old, endpoint))

    @rule(endpoint=ENDPOINTS, entity=ENTITIES, timed_out=st.booleans())
    def report_failed(self, endpoint: str, entity: str, timed_out: bool) -> None:
        current = self.endpoint(endpoint)
        version = current.latest_version if current else 1
        event = EntityFailed(endpoint_id=endpoint, version=version, entity=entity, message="no", timed_out=timed_out, at_ms=9)
        self.append(event)
        after = self.endpoint(endpoint)
        if current and after:
            assert after.active == current.active, "a failed update leaves the active config untouched"

    @rule(endpoint=ENDPOINTS)
    def cancel(self, endpoint: str) -> None:
        current = self.endpoint(endpoint)
        self.append(UpdateCanceled(endpoint_id=endpoint, version=current.latest_version if current else 1, at_ms=9))
        after = self.endpoint(endpoint)
        if current and after:
            assert after.active == current.active, "a canceled update leaves the active config untouched"
            assert after.update is not ConfigUpdate.IN_PROGRESS

    @rule(endpoint=ENDPOINTS, stale=st.integers(0, 1))
    def stop(self, endpoint: str, stale: int) -> None:
        current = self.endpoint(endpoint)
        event = EndpointStopped(endpoint_id=endpoint, based_on=(current.latest_version if current else 1) - stale, at_ms=9)
        self.append(event)
        wanted = current is not None and not stale and current.serving is not None and current.update is not ConfigUpdate.IN_PROGRESS
        assert (self.state.verdicts[event.event_id] is None) is wanted
        after = self.endpoint(endpoint)
        if wanted and current and after:
            assert (after.serving, after.active) == (None, current.active)

    @rule(endpoint=ENDPOINTS, stale=st.integers(0, 1))
    def start(self, endpoint: str, stale: int) -> None:
        current = self.endpoint(endpoint)
        event = EndpointStarted(endpoint_id=endpoint, based_on=(current.latest_version if current else 1) - stale, at_ms=9)
        self.append(event)
        wanted = current is not None and not stale and current.stopped and current.update is not ConfigUpdate.IN_PROGRESS
        assert (self.state.verdicts[event.event_id] is None) is wanted
        after = self.endpoint(endpoint)
        if wanted and current and current.active and after and after.pending:
            assert after.pending.spec == current.active.spec
            assert after.stopped, "nothing serves until all of it is ready"

    @rule(endpoint=ENDPOINTS)
    def delete(self, endpoint: str) -> None:
        self.append(EndpointDeleted(endpoint_id=endpoint, at_ms=9))
        assert self.endpoint(endpoint) is None

    @rule(endpoint=ENDPOINTS, enabled=st.booleans())
    def change_gateway(self, endpoint: str, enabled: bool) -> None:
        gateway = {"usage_tracking_config": {"enabled": enabled}}
        self.append(GatewayChanged(endpoint_id=endpoint, gateway=gateway, at_ms=9))
        after = self.endpoint(endpoint)
        assert after is None or after.gateway == gateway

    @rule(pick=st.integers(0, 30))
    def remove_pool(self, pick: int) -> None:
        if self.state.pools:
            pool_id = sorted(self.state.pools)[pick % len(self.state.pools)]
            self.append(PoolRemoved(pool_id=pool_id, at_ms=9))
            if pool_id not in self.state.pools:
                self.removed.add(pool_id)

    @rule(pick=st.integers(0, 100))
    def repeat(self, pick: int) -> None:
        if self.log:
            self.append(self.log[pick % len(self.log)])

    @rule(pick=st.integers(0, 100))
    def deliver_again(self, pick: int) -> None:
        if self.log:
            offset = pick % len(self.log)
            assert apply_event(self.state, offset, self.log[offset]) is self.state

    @invariant()
    def another_reader_sees_the_same(self) -> None:
        state = ControlState()
        for offset, event in enumerate(self.log):
            state = apply_event(state, offset, event)
            state = apply_event(state, offset, event)
        assert _plain(state) == _plain(self.state)

    @invariant()
    def names_and_ids_are_unique(self) -> None:
        ids = [e.endpoint_id for e in self.state.endpoints.values()]
        assert len(set(ids)) == len(ids)
        assert all(name == endpoint.name for name, endpoint in self.state.endpoints.items())

    @invariant()
    def what_serves_is_ready_and_not_retired(self) -> None:
        for endpoint in self.state.endpoints.values():
            assert (endpoint.update is ConfigUpdate.NOT_UPDATING) == (endpoint.pending is None)
            if endpoint.active:
                assert all(e.deployment is Deployment.READY for e in endpoint.active.entities.values())
            running = endpoint.pending if endpoint.update is ConfigUpdate.IN_PROGRESS else None
            for served in (endpoint.serving, running):
                for entity in served.entities.values() if served else ():
                    pool = self.state.pools[entity.pool_id]
                    assert pool.retired_at is None
                    assert (pool.spec, pool.endpoint_id) == (entity.spec, endpoint.endpoint_id)

    @invariant()
    def pools_nobody_uses_are_retired_for_good(self) -> None:
        used = set()
        for endpoint in self.state.endpoints.values():
            for served in (endpoint.serving, endpoint.pending if endpoint.update is ConfigUpdate.IN_PROGRESS else None):
                used |= {e.pool_id for e in served.entities.values()} if served else set()
        for pool_id, pool in self.state.pools.items():
            assert (pool.retired_at is None) == (pool_id in used)
            assert pool_id not in self.removed, "a removed pool never comes back"
            assert self.retired.get(pool_id, pool.retired_at) == pool.retired_at, "a retired pool never comes back"
            if pool.retired_at is not None:
                self.retired[pool_id] = pool.retired_at

    @invariant()
    def versions_only_grow(self) -> None:
        for endpoint in self.state.endpoints.values():
            assert endpoint.latest_version >= self.versions.get(endpoint.endpoint_id, 1)
            self.versions[endpoint.endpoint_id] = endpoint.latest_version
            newest = endpoint.pending or endpoint.active
            assert newest is not None
            assert newest.version == endpoint.latest_version or endpoint.stopped, "a stop forgets what failed"
            assert endpoint.active is None or endpoint.active.version <= newest.version


def _plain(state: ControlState) -> tuple[object, ...]:
    """Everything but the identity of the exceptions that verdicts are."""
    verdicts = {event_id: refusal and (type(refusal), refusal.message) for event_id, refusal in state.verdicts.items()}
    return state.next_offset, state.endpoints, state.pools, state.tokens, verdicts


TestFold = Fold.TestCase
TestFold.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
