"""Endpoint, pool, token and secret state: a fold over the control log, pure and the same in every process (`design.md` §5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from services.shared.access_lists import AccessLists, apply_access_event
from services.shared.batches import Batches, apply_batch_event
from services.shared.control_events import (
    AccessEvent,
    BatchEvent,
    BatchSubmitted,
    ConfigRequested,
    ConfigSpec,
    ControlEvent,
    EndpointCreated,
    EndpointDeleted,
    EndpointEvent,
    EndpointStarted,
    EndpointStopped,
    EntityFailed,
    EntityReady,
    EntitySpec,
    GatewayChanged,
    Grant,
    GroupChanged,
    Notifications,
    NotificationsChanged,
    PermissionsChanged,
    PoolRemoved,
    PrincipalKind,
    RateLimit,
    RateLimitsChanged,
    SamplingChanged,
    SecretEvent,
    TableConfig,
    TagsChanged,
    TokenCreated,
    TokenRevoked,
    TopicsSwitched,
    UpdateCanceled,
)
from services.shared.errors import AlreadyExists, Conflict, EndpointNotFound, QuotaExceeded, RequestRejected
from services.shared.milestones import KEPT, Milestone, milestones_of
from services.shared.secret_scopes import Scopes, apply_secret_event
from services.shared.table_owners import TableOwner, TableOwners, claim

ADMINS = "admins"  # the group whose members may do everything
FIRST_ADMIN = "admin"  # whose token `penstock up` makes
REMEMBERED_VERDICTS = 1_000  # a repeat is a producer's retry: seconds old, so a few thousand events back is for ever


class Deployment(StrEnum):
    CREATING = "DEPLOYMENT_CREATING"
    READY = "DEPLOYMENT_READY"
    RECOVERING = "DEPLOYMENT_RECOVERING"
    FAILED = "DEPLOYMENT_FAILED"
    ABORTED = "DEPLOYMENT_ABORTED"


class ConfigUpdate(StrEnum):
    NOT_UPDATING = "NOT_UPDATING"
    IN_PROGRESS = "IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    UPDATE_CANCELED = "UPDATE_CANCELED"


@dataclass(frozen=True, slots=True)
class ServedEntity:
    """An entity of one config: its spec, the pool that scores it, and how far its deployment is."""

    spec: EntitySpec
    pool_id: str
    created_ms: int
    deployment: Deployment
    message: str


@dataclass(frozen=True, slots=True)
class Config:
    version: int
    requested_ms: int
    spec: ConfigSpec
    entities: Mapping[str, ServedEntity]  # by entity name


@dataclass(frozen=True, slots=True)
class PublicTopics:
    """That an endpoint's topics are read, and as whose requests."""

    requester: str
    kind: PrincipalKind


@dataclass(frozen=True, slots=True)
class Endpoint:
    endpoint_id: str
    name: str
    creator: str
    created_ms: int
    updated_ms: int
    description: str
    tags: tuple[tuple[str, str | None], ...]
    gateway: Mapping[str, Any]
    route_optimized: bool
    latest_version: int
    active: Config | None
    pending: Config | None
    update: ConfigUpdate
    creator_kind: PrincipalKind = PrincipalKind.USER
    grants: tuple[Grant, ...] = ()
    notifications: Notifications | None = None
    stopped: bool = False  # until a config is ready again
    milestones: tuple[Milestone, ...] = ()  # the newest, oldest first
    topics: PublicTopics | None = None  # None: they are not read
    sampling_fraction: float | None = None  # of its requests that are logged; None: it was never set, and all are

    @property
    def serving(self) -> Config | None:
        """The config that scores: the active one, unless the endpoint is stopped."""
        return None if self.stopped else self.active

    @property
    def table(self) -> TableConfig | None:
        """The inference table requests accepted now are logged to, or None."""
        captured = self.active.spec.auto_capture if self.active else None
        config = self._gateway_table or captured
        return config if config and config.enabled else None

    @property
    def named_tables(self) -> tuple[str, ...]:
        """Those it logs to, or will once its pending config serves, switched on or not."""
        captured = (config.spec.auto_capture for config in (self.active, self.pending) if config)
        return tuple(table.full_name for table in (self._gateway_table, *captured) if table)

    @property
    def _gateway_table(self) -> TableConfig | None:
        table = self.gateway.get("inference_table_config")
        return TableConfig.model_validate(table) if table else None

    @property
    def logs_legacy_rows(self) -> bool:
        """Whether a table made for it now has the layout of `auto_capture_config` (databricks_surface §3.2)."""
        return self.table is not None and not self.gateway.get("inference_table_config")

    @property
    def rate_limits(self) -> tuple[RateLimit, ...]:
        return tuple(RateLimit.model_validate(limit) for limit in self.gateway.get("rate_limits", ()))

    @property
    def provisioned_concurrency(self) -> int:
        """What counts against the quota: the larger of what serves and what is being deployed, so that an update needs no second share."""
        deploying = self.pending if self.update is ConfigUpdate.IN_PROGRESS else None
        return max((config.spec.max_concurrency for config in (self.serving, deploying) if config), default=0)


@dataclass(frozen=True, slots=True)
class Pool:
    """The consumers of one served entity. `retired_at` is the control offset from which no new request goes to it."""

    pool_id: str
    endpoint_id: str
    endpoint_name: str
    spec: EntitySpec
    creator: str
    retired_at: int | None = None

    @property
    def served_entity_id(self) -> str:
        return served_entity_id(self.pool_id)


@dataclass(frozen=True, slots=True)
class Token:
    token_id: str
    principal: str
    kind: PrincipalKind = PrincipalKind.USER
    created_ms: int = 0
    expires_ms: int | None = None
    comment: str = ""

    def is_expired(self, at_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= at_ms


@dataclass(frozen=True, slots=True)
class ControlState:
    """A snapshot of everything the control log says up to `next_offset`."""

    next_offset: int = 0
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)  # by name
    pools: Mapping[str, Pool] = field(default_factory=dict)  # by pool id, until removed
    tokens: Mapping[str, Token] = field(default_factory=dict)  # by sha256 of the token
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {ADMINS: (FIRST_ADMIN,)})  # name → members
    scopes: Scopes = field(default_factory=dict)  # of secrets
    access: AccessLists = field(default_factory=AccessLists)
    batches: Batches = field(default_factory=dict)
    table_owners: TableOwners = field(default_factory=dict)
    verdicts: Mapping[str, RequestRejected | None] = field(default_factory=dict)  # event id → None (accepted) or why not

    def endpoint(self, name: str) -> Endpoint:
        """Raises EndpointNotFound."""
        if name not in self.endpoints:
            raise EndpointNotFound(name)
        return self.endpoints[name]

    def endpoint_by_id(self, endpoint_id: str) -> Endpoint | None:
        return next((e for e in self.endpoints.values() if e.endpoint_id == endpoint_id), None)


def served_entity_id(pool_id: str) -> str:
    """32 hex digits, the same for every replica and process: one per served entity and version of its spec."""
    return uuid5(NAMESPACE_OID, f"penstock/{pool_id}").hex


def apply_event(state: ControlState, offset: int, event: ControlEvent | None) -> ControlState:
    """Fold the record at `offset` (None: it held no event of ours).

    A repeated event id and a refused event change nothing but the offset; the verdict of each recent event id is kept, and
    a repeat keeps the first one. An offset already folded changes nothing at all.
    """
    if offset < state.next_offset:
        return state
    state = replace(state, next_offset=offset + 1)
    if event is None or event.event_id in state.verdicts:
        return state
    verdict: RequestRejected | None = None
    try:
        state = _apply(state, offset, event)
    except RequestRejected as refusal:
        verdict = refusal.with_traceback(None)
    kept = list(state.verdicts.items())[-(REMEMBERED_VERDICTS - 1) :]
    return replace(state, verdicts={**dict(kept), event.event_id: verdict})


def _apply(state: ControlState, offset: int, event: ControlEvent) -> ControlState:
    if isinstance(event, SecretEvent):
        return replace(state, scopes=apply_secret_event(state.scopes, event))
    if isinstance(event, AccessEvent):
        return replace(state, access=apply_access_event(state.access, event))
    if isinstance(event, BatchEvent):
        if isinstance(event, BatchSubmitted) and state.endpoint_by_id(event.endpoint_id) is None:
            raise EndpointNotFound(event.endpoint_id)
        return replace(state, batches=apply_batch_event(state.batches, event))
    match event:
        case TokenCreated():
            token = Token(event.token_id, event.principal, event.kind, event.at_ms, event.expires_ms, event.comment)
            return replace(state, tokens={**state.tokens, event.sha256: token})
        case TokenRevoked():
            return replace(state, tokens={digest: t for digest, t in state.tokens.items() if t.token_id != event.token_id})
        case GroupChanged():
            if event.name == ADMINS and not event.members:
                raise Conflict("Somebody has to be an admin.")
            others = {name: members for name, members in state.groups.items() if name != event.name}
            return replace(state, groups=others | ({event.name: event.members} if event.members else {}))
        case PoolRemoved():
            pool = state.pools.get(event.pool_id)
            if pool is not None and pool.retired_at is None:
                raise Conflict("The pool is in service; only a retired pool is removed.")
            return replace(state, pools={pool_id: p for pool_id, p in state.pools.items() if pool_id != event.pool_id})
        case EndpointCreated():
            created = _with_endpoint(state, offset, _remembering(_created(state, event), event, None))
            return _within_quota(state, created, event.quota)
        case _:
            return _changed(state, offset, event)


def _changed(state: ControlState, offset: int, event: EndpointEvent) -> ControlState:
    endpoint = state.endpoint_by_id(event.endpoint_id)
    if endpoint is None:
        raise EndpointNotFound(event.endpoint_id)
    match event:
        case EndpointDeleted():
            left = {name: e for name, e in state.endpoints.items() if name != endpoint.name}
            return _retire_unused(replace(state, endpoints=left), offset)
        case GatewayChanged():
            changed = replace(endpoint, gateway=event.gateway, updated_ms=event.at_ms)
        case TagsChanged():
            tags = {key: value for key, value in endpoint.tags if key not in event.removed} | dict(event.added)
            changed = replace(endpoint, tags=tuple(tags.items()), updated_ms=event.at_ms)
        case PermissionsChanged():
            kept = () if event.replaces else endpoint.grants
            grants = {(grant.kind, grant.name): grant for grant in (*kept, *event.grants)}
            changed = replace(endpoint, grants=tuple(grants.values()), updated_ms=event.at_ms)
        case NotificationsChanged():
            changed = replace(endpoint, notifications=event.notifications, updated_ms=event.at_ms)
        case TopicsSwitched():
            topics = PublicTopics(event.requester, event.requester_kind) if event.enabled else None
            changed = replace(endpoint, topics=topics, updated_ms=event.at_ms)
        case EndpointStopped():
            changed = _stopped(endpoint, event)
        case EndpointStarted():
            changed = _started(endpoint, event)
        case ConfigRequested():
            changed = _config_requested(endpoint, event)
        case UpdateCanceled():
            changed = _update_canceled(endpoint, event)
        case RateLimitsChanged():
            limits = [limit.model_dump(exclude_none=True) for limit in event.rate_limits]
            others = {part: value for part, value in endpoint.gateway.items() if part != "rate_limits"}
            changed = replace(endpoint, gateway=others | ({"rate_limits": limits} if limits else {}), updated_ms=event.at_ms)
        case SamplingChanged():
            changed = replace(endpoint, sampling_fraction=event.sampling_fraction, updated_ms=event.at_ms)
        case EntityReady() | EntityFailed():
            changed = _deployment_reported(endpoint, event)
        case _:
            raise TypeError(f"no fold for {type(event).__name__}")
    after = _with_endpoint(state, offset, _remembering(changed, event, endpoint.active))
    return _within_quota(state, after, event.quota) if isinstance(event, ConfigRequested | EndpointStarted) else after


def _remembering(endpoint: Endpoint, event: EndpointEvent, active_before: Config | None) -> Endpoint:
    new = milestones_of(event, endpoint.latest_version, activated=endpoint.active is not active_before)
    return replace(endpoint, milestones=(*endpoint.milestones, *new)[-KEPT:]) if new else endpoint


def _within_quota(before: ControlState, after: ControlState, quota: int | None) -> ControlState:
    """Decided here, where there is an order: of two creates that take what is left, one is refused. Who takes no more is never refused."""
    total = sum(endpoint.provisioned_concurrency for endpoint in after.endpoints.values())
    if quota is None or total <= quota or total <= sum(endpoint.provisioned_concurrency for endpoint in before.endpoints.values()):
        return after
    raise QuotaExceeded(f"Workspace exceeded provisioned concurrency quota: it may hold {quota}, and with this it would hold {total}.")


def _created(state: ControlState, event: EndpointCreated) -> Endpoint:
    if event.name in state.endpoints:
        raise AlreadyExists(f"Endpoint with name '{event.name}' already exists.")
    return Endpoint(
        endpoint_id=event.endpoint_id,
        name=event.name,
        creator=event.creator,
        created_ms=event.at_ms,
        updated_ms=event.at_ms,
        description=event.description,
        tags=event.tags,
        gateway=event.gateway,
        route_optimized=event.route_optimized,
        latest_version=1,
        active=None,
        pending=_new_config(event.endpoint_id, 1, event.config, None, event.at_ms),
        update=ConfigUpdate.IN_PROGRESS,
        creator_kind=event.creator_kind,
        grants=(Grant(kind=event.creator_kind, name=event.creator, level="CAN_MANAGE"),),
        notifications=event.notifications,
        sampling_fraction=event.sampling_fraction,
    )


def _config_requested(endpoint: Endpoint, event: ConfigRequested) -> Endpoint:
    _require_calm(endpoint, event.based_on)
    return _updating(endpoint, event.config, event.at_ms)


def _stopped(endpoint: Endpoint, event: EndpointStopped) -> Endpoint:
    """What is left of a failed or canceled update goes with the pools."""
    _require_calm(endpoint, event.based_on)
    if endpoint.serving is None:
        raise Conflict(f"Endpoint '{endpoint.name}' is not serving, so it cannot be stopped.")
    return replace(endpoint, stopped=True, pending=None, update=ConfigUpdate.NOT_UPDATING, updated_ms=event.at_ms)


def _started(endpoint: Endpoint, event: EndpointStarted) -> Endpoint:
    _require_calm(endpoint, event.based_on)
    if endpoint.active is None or not endpoint.stopped:
        raise Conflict(f"Endpoint '{endpoint.name}' is not stopped, so it cannot be started.")
    return _updating(endpoint, endpoint.active.spec, event.at_ms)


def _require_calm(endpoint: Endpoint, based_on: int) -> None:
    if endpoint.update is ConfigUpdate.IN_PROGRESS:
        raise Conflict(f"Endpoint '{endpoint.name}' is being updated; wait until config_update is NOT_UPDATING.")
    if based_on != endpoint.latest_version:
        raise Conflict(f"Endpoint '{endpoint.name}' was changed by somebody else meanwhile; read it again.")


def _updating(endpoint: Endpoint, spec: ConfigSpec, at_ms: int) -> Endpoint:
    version = endpoint.latest_version + 1
    pending = _new_config(endpoint.endpoint_id, version, spec, endpoint.serving, at_ms)
    changed = replace(endpoint, latest_version=version, updated_ms=at_ms, pending=pending, update=ConfigUpdate.IN_PROGRESS)
    return _activated_if_ready(changed)


def _update_canceled(endpoint: Endpoint, event: UpdateCanceled) -> Endpoint:
    pending = endpoint.pending
    if endpoint.update is not ConfigUpdate.IN_PROGRESS or pending is None or pending.version != event.version:
        raise Conflict(f"Endpoint '{endpoint.name}' has no update under way that could be canceled.")
    entities = {name: replace(e, deployment=Deployment.ABORTED, message="The update was canceled.") for name, e in pending.entities.items()}
    canceled = replace(pending, entities=entities)
    return replace(endpoint, pending=canceled, update=ConfigUpdate.UPDATE_CANCELED, updated_ms=event.at_ms)


def _new_config(endpoint_id: str, version: int, spec: ConfigSpec, serving: Config | None, at_ms: int) -> Config:
    """An entity whose spec is serving already keeps its pool, so a traffic-only update restarts nothing."""
    entities = {}
    for entity in spec.entities:
        old = serving.entities.get(entity.name) if serving else None
        if old is not None and old.spec == entity:
            entities[entity.name] = replace(old, deployment=Deployment.READY, message="")
        else:
            pool_id = f"{endpoint_id}-{entity.name}-{version}"
            entities[entity.name] = ServedEntity(entity, pool_id, at_ms, Deployment.CREATING, "Creating resources for served entity.")
    return Config(version, at_ms, spec, entities)


def _deployment_reported(endpoint: Endpoint, event: EntityReady | EntityFailed) -> Endpoint:
    pending = endpoint.pending
    if pending is None or pending.version != event.version or event.entity not in pending.entities:
        raise Conflict("The report is about a config that is not pending.")
    if endpoint.update is not ConfigUpdate.IN_PROGRESS:
        raise Conflict("The update this report is about has ended.")
    if isinstance(event, EntityReady):
        entities = {**pending.entities, event.entity: replace(pending.entities[event.entity], deployment=Deployment.READY, message="")}
        return _activated_if_ready(replace(endpoint, pending=replace(pending, entities=entities)), event.at_ms)
    culprit = Deployment.ABORTED if event.timed_out else Deployment.FAILED
    aborted = f"Served entity creation aborted because '{event.entity}' failed."
    entities = {
        name: replace(e, deployment=culprit, message=event.message)
        if name == event.entity
        else replace(e, deployment=Deployment.ABORTED, message=aborted)
        for name, e in pending.entities.items()
    }
    failed = replace(pending, entities=entities)
    return replace(endpoint, pending=failed, update=ConfigUpdate.UPDATE_FAILED, updated_ms=event.at_ms)


def _activated_if_ready(endpoint: Endpoint, at_ms: int | None = None) -> Endpoint:
    """All or nothing: the pending config becomes the active one when its last entity is ready."""
    pending = endpoint.pending
    if pending is None or any(e.deployment is not Deployment.READY for e in pending.entities.values()):
        return endpoint
    done_ms = endpoint.updated_ms if at_ms is None else at_ms
    return replace(endpoint, active=pending, pending=None, update=ConfigUpdate.NOT_UPDATING, updated_ms=done_ms, stopped=False)


def _with_endpoint(state: ControlState, offset: int, endpoint: Endpoint) -> ControlState:
    owner = TableOwner(endpoint.name, endpoint.creator, endpoint.creator_kind)
    owners = claim(state.table_owners, endpoint.named_tables, owner, is_admin=endpoint.creator in state.groups.get(ADMINS, ()))
    pools = dict(state.pools)
    if endpoint.update is ConfigUpdate.IN_PROGRESS and endpoint.pending:
        for e in endpoint.pending.entities.values():
            pools.setdefault(e.pool_id, Pool(e.pool_id, endpoint.endpoint_id, endpoint.name, e.spec, endpoint.creator))
    state = replace(state, endpoints={**state.endpoints, endpoint.name: endpoint}, pools=pools, table_owners=owners)
    return _retire_unused(state, offset)


def _retire_unused(state: ControlState, offset: int) -> ControlState:
    """A pool that no config routes to, now or when its update succeeds, is retired: drained, then removed (R10)."""
    used = set()
    for endpoint in state.endpoints.values():
        running = endpoint.pending if endpoint.update is ConfigUpdate.IN_PROGRESS else None
        for config in (endpoint.serving, running):
            used |= {e.pool_id for e in config.entities.values()} if config else set()
    if all(pool_id in used or pool.retired_at is not None for pool_id, pool in state.pools.items()):
        return state
    return replace(
        state, pools={i: p if i in used or p.retired_at is not None else replace(p, retired_at=offset) for i, p in state.pools.items()}
    )
