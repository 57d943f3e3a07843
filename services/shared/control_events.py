"""What is written to `penstock.control`: the events, the specs inside them, and their JSON form.

Every event carries its own id (a repeat gets the first verdict) and, if it is about an endpoint, the endpoint's id and the
version it was decided on (R9). Values of `environment_vars` and of secrets are sealed before they get here (R16).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema
from uuid_utils import uuid4, uuid7

from services.shared.addresses import parse_address, parse_network

LANES_PER_REPLICA = 4  # one replica gives 4 provisioned concurrency (databricks_surface §5)
SIZE_CONCURRENCY = {"Small": (4, 4), "Medium": (8, 16), "Large": (16, 64)}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class EntitySpec(_Frozen):
    """One model version behind an endpoint, as the caller asked for it; any change of it means a new pool."""

    name: str
    model_name: str
    model_version: str
    workload_size: str | None = None
    workload_type: str = "CPU"
    min_provisioned_concurrency: int | None = None
    max_provisioned_concurrency: int | None = None
    scale_to_zero_enabled: bool = False
    environment_vars: dict[str, str] = {}  # name → sealed value
    secret_references: dict[str, str] = {}  # name → `{{secrets/scope/key}}`, where the value is a secret's, as of the request

    @property
    def concurrency(self) -> tuple[int, int]:
        """Least and most requests scored at once, before scale to zero is considered."""
        if self.max_provisioned_concurrency is not None:
            return self.min_provisioned_concurrency or 0, self.max_provisioned_concurrency
        return SIZE_CONCURRENCY[self.workload_size or "Small"]

    @property
    def min_replicas(self) -> int:
        """Replicas kept without load; 0 only where scale to zero is enabled."""
        least = self.concurrency[0] // LANES_PER_REPLICA
        return 0 if self.scale_to_zero_enabled else max(1, least)

    @property
    def max_replicas(self) -> int:
        return max(1, self.concurrency[1] // LANES_PER_REPLICA)


class Route(_Frozen):
    entity: str
    traffic_percentage: int


class TableConfig(_Frozen):
    """Where an endpoint's inference table lies; `enabled` False keeps the names of a table that was switched off."""

    catalog_name: str
    schema_name: str
    table_name_prefix: str
    enabled: bool = True

    @property
    def full_name(self) -> str:
        return f"{self.catalog_name}.{self.schema_name}.{self.table_name_prefix}_payload"


class Notifications(_Frozen):
    """Addresses to tell of an update's end. Kept and shown; no mail is sent."""

    on_update_success: tuple[str, ...] = ()
    on_update_failure: tuple[str, ...] = ()


class ConfigSpec(_Frozen):
    entities: tuple[EntitySpec, ...]
    routes: tuple[Route, ...]
    auto_capture: TableConfig | None = None

    @property
    def max_concurrency(self) -> int:
        """What the workspace's quota counts: the maxima of the entities (databricks_surface §2.4)."""
        return sum(entity.concurrency[1] for entity in self.entities)


class RateLimit(_Frozen):
    """At most `calls` a minute. `endpoint`: of all callers together; `user`: of each caller, or of the one `principal` names."""

    calls: int
    key: Literal["user", "endpoint", "service_principal"]
    renewal_period: Literal["minute"] = "minute"
    principal: str | None = None


def _network(text: str) -> str:
    parse_network(text)
    return text


def _address(text: str) -> str:
    parse_address(text)
    return text


ListType = Literal["ALLOW", "BLOCK"]
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
NETWORK_SCHEMA = {
    "type": "string",
    "anyOf": [
        {"pattern": rf"^{_OCTET}(\.{_OCTET}){{3}}(/([12]?[0-9]|3[0-2]))?$"},
        {"pattern": "^([0-9a-f]{1,4}:){1,7}:(/(1[01][0-9]|12[0-8]|[1-9]?[0-9]))?$"},
        {"format": "ipv6"},
    ],
}
NetworkText = Annotated[str, AfterValidator(_network), WithJsonSchema(NETWORK_SCHEMA)]


class _Event(_Frozen):
    event_id: str = Field(default_factory=lambda: str(uuid7()))
    at_ms: int


class PrincipalKind(StrEnum):
    """Whom a right or a token is for, by the field names of the permissions API."""

    USER = "user_name"
    GROUP = "group_name"
    SERVICE_PRINCIPAL = "service_principal_name"


class Grant(_Frozen):
    """A direct entry of an endpoint's access control list."""

    kind: PrincipalKind
    name: str
    level: Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]


class TokenCreated(_Event):
    """`sha256` is the hex digest of the token; the token itself is shown once, to its owner. `expires_ms` None: never."""

    type: Literal["TokenCreated"] = "TokenCreated"
    token_id: str
    sha256: str
    principal: str
    kind: PrincipalKind = PrincipalKind.USER
    expires_ms: int | None = None
    comment: str = ""


class TokenRevoked(_Event):
    type: Literal["TokenRevoked"] = "TokenRevoked"
    token_id: str


class GroupChanged(_Event):
    """Who is in the group from now on; nobody: the group is gone."""

    type: Literal["GroupChanged"] = "GroupChanged"
    name: str
    members: tuple[str, ...]


class SecretScopeCreated(_Event):
    """`manager` is the name of the user, service principal or group that may do everything with it."""

    type: Literal["SecretScopeCreated"] = "SecretScopeCreated"
    scope_id: str = Field(default_factory=lambda: uuid4().hex)
    name: str
    manager: str


class SecretScopeDeleted(_Event):
    """Its secrets and its access control list go with it."""

    type: Literal["SecretScopeDeleted"] = "SecretScopeDeleted"
    scope_id: str


class SecretPut(_Event):
    """Adds a secret, or replaces its value."""

    type: Literal["SecretPut"] = "SecretPut"
    scope_id: str
    key: str
    sealed: str


class SecretDeleted(_Event):
    type: Literal["SecretDeleted"] = "SecretDeleted"
    scope_id: str
    key: str


class SecretAclPut(_Event):
    """Adds an entry for a principal, a user, service principal or group, or replaces it."""

    type: Literal["SecretAclPut"] = "SecretAclPut"
    scope_id: str
    principal: str
    permission: Literal["READ", "WRITE", "MANAGE"]


class SecretAclDeleted(_Event):
    type: Literal["SecretAclDeleted"] = "SecretAclDeleted"
    scope_id: str
    principal: str


class _AccessEvent(_Event):
    """`author_address` is whence the change was asked for; None: from the machine itself, by the control log."""

    author_address: Annotated[str, AfterValidator(_address)] | None = None


class AccessListCreated(_AccessEvent):
    type: Literal["AccessListCreated"] = "AccessListCreated"
    list_id: str = Field(default_factory=lambda: str(uuid4()))
    label: str
    list_type: ListType
    addresses: tuple[NetworkText, ...]
    enabled: bool = True


class AccessListChanged(_AccessEvent):
    """What is None stays."""

    type: Literal["AccessListChanged"] = "AccessListChanged"
    list_id: str
    label: str | None = None
    list_type: ListType | None = None
    addresses: tuple[NetworkText, ...] | None = None
    enabled: bool | None = None


class AccessListDeleted(_AccessEvent):
    type: Literal["AccessListDeleted"] = "AccessListDeleted"
    list_id: str


class AccessListsSwitched(_AccessEvent):
    """Whether the lists are enforced."""

    type: Literal["AccessListsSwitched"] = "AccessListsSwitched"
    enforced: bool


class EndpointCreated(_Event):
    """`quota` is the provisioned concurrency the workspace may hold with it; None (an older log): any."""

    type: Literal["EndpointCreated"] = "EndpointCreated"
    endpoint_id: str = Field(default_factory=lambda: uuid4().hex)
    name: str
    creator: str
    creator_kind: PrincipalKind = PrincipalKind.USER
    config: ConfigSpec
    description: str = ""
    tags: tuple[tuple[str, str | None], ...] = ()
    gateway: dict[str, Any] = {}
    route_optimized: bool = False
    notifications: Notifications | None = None
    sampling_fraction: float | None = None
    quota: int | None = None


class ConfigRequested(_Event):
    type: Literal["ConfigRequested"] = "ConfigRequested"
    endpoint_id: str
    based_on: int
    config: ConfigSpec
    quota: int | None = None  # as of a create


class UpdateCanceled(_Event):
    """Ends the update to `version` without a switch; its pools go."""

    type: Literal["UpdateCanceled"] = "UpdateCanceled"
    endpoint_id: str
    version: int


class GatewayChanged(_Event):
    """Replaces the endpoint's AI gateway config; `{}` clears it."""

    type: Literal["GatewayChanged"] = "GatewayChanged"
    endpoint_id: str
    gateway: dict[str, Any]


class PermissionsChanged(_Event):
    """`replaces`: the grants are all there are from now on; else they are added, or replace those of the same principals."""

    type: Literal["PermissionsChanged"] = "PermissionsChanged"
    endpoint_id: str
    grants: tuple[Grant, ...]
    replaces: bool


class TagsChanged(_Event):
    """Takes the tags named in `removed` away, then adds or replaces those in `added`."""

    type: Literal["TagsChanged"] = "TagsChanged"
    endpoint_id: str
    added: tuple[tuple[str, str | None], ...] = ()
    removed: tuple[str, ...] = ()


class NotificationsChanged(_Event):
    """Replaces both lists of addresses."""

    type: Literal["NotificationsChanged"] = "NotificationsChanged"
    endpoint_id: str
    notifications: Notifications


class EndpointStopped(_Event):
    """The active config stays, and its pools go; refused during an update, and when decided on another version."""

    type: Literal["EndpointStopped"] = "EndpointStopped"
    endpoint_id: str
    based_on: int


class EndpointStarted(_Event):
    """Deploys the config of a stopped endpoint again, as a new version on pools of its own."""

    type: Literal["EndpointStarted"] = "EndpointStarted"
    endpoint_id: str
    based_on: int
    quota: int | None = None  # as of a create


class RateLimitsChanged(_Event):
    """Replaces the rate limits in the endpoint's AI gateway config, and nothing else of it; none clears them."""

    type: Literal["RateLimitsChanged"] = "RateLimitsChanged"
    endpoint_id: str
    rate_limits: tuple[RateLimit, ...]


class SamplingChanged(_Event):
    """From now on the inference table gets this share of the requests; None: all, as where none was ever set."""

    type: Literal["SamplingChanged"] = "SamplingChanged"
    endpoint_id: str
    sampling_fraction: float | None


class TopicsSwitched(_Event):
    """Whether what lies in the endpoint's public topic is scored; it counts as asked for by `requester`, who switched it on."""

    type: Literal["TopicsSwitched"] = "TopicsSwitched"
    endpoint_id: str
    enabled: bool
    requester: str
    requester_kind: PrincipalKind = PrincipalKind.USER


class EndpointDeleted(_Event):
    type: Literal["EndpointDeleted"] = "EndpointDeleted"
    endpoint_id: str


class EntityReady(_Event):
    """The scaler saw the entity's pool ready at the size it needs."""

    type: Literal["EntityReady"] = "EntityReady"
    endpoint_id: str
    version: int
    entity: str


class EntityFailed(_Event):
    """The entity cannot be deployed; `message` is shown to the user."""

    type: Literal["EntityFailed"] = "EntityFailed"
    endpoint_id: str
    version: int
    entity: str
    message: str
    timed_out: bool = False


class PoolRemoved(_Event):
    """Topics and group of a retired pool are gone: nothing was left in them (R10)."""

    type: Literal["PoolRemoved"] = "PoolRemoved"
    pool_id: str


class BatchSubmitted(_Event):
    """Order and input lie in the batch's folder already. `key` and `digest` are SHA-256 in hex: of the caller's `Idempotency-Key`
    ("": there was none), and of all that was sent with it.
    """

    type: Literal["BatchSubmitted"] = "BatchSubmitted"
    batch_id: str = Field(default_factory=lambda: str(uuid7()))
    endpoint_id: str
    owner: str
    owner_kind: PrincipalKind = PrincipalKind.USER
    key: str = ""
    digest: str = ""
    table: str = ""  # catalog.schema.table of the results, or "" for none


class BatchCanceled(_Event):
    """Somebody wants it to stop; it has ended when `BatchEnded` says so."""

    type: Literal["BatchCanceled"] = "BatchCanceled"
    batch_id: str


class BatchEnded(_Event):
    """`message` is shown to the user: why it failed, or "". `failed` of its `rows` have no prediction, but an error.

    Unless `wrote_table`, the table that was asked for is not this batch's: there is none, or it is somebody else's.
    """

    type: Literal["BatchEnded"] = "BatchEnded"
    batch_id: str
    state: Literal["SUCCEEDED", "FAILED", "CANCELED"]
    message: str = ""
    rows: int = 0
    failed: int = 0
    wrote_table: bool = True


class BatchForgotten(_Event):
    """Its folder is gone; a table of results stays, and whose it is is remembered."""

    type: Literal["BatchForgotten"] = "BatchForgotten"
    batch_id: str


EndpointEvent = (
    EndpointCreated
    | ConfigRequested
    | UpdateCanceled
    | GatewayChanged
    | RateLimitsChanged
    | SamplingChanged
    | TagsChanged
    | PermissionsChanged
    | NotificationsChanged
    | EndpointStopped
    | EndpointStarted
    | TopicsSwitched
    | EndpointDeleted
    | EntityReady
    | EntityFailed
)
SecretEvent = SecretScopeCreated | SecretScopeDeleted | SecretPut | SecretDeleted | SecretAclPut | SecretAclDeleted
AccessEvent = AccessListCreated | AccessListChanged | AccessListDeleted | AccessListsSwitched
BatchEvent = BatchSubmitted | BatchCanceled | BatchEnded | BatchForgotten
ControlEvent = EndpointEvent | SecretEvent | AccessEvent | BatchEvent | PoolRemoved | TokenCreated | TokenRevoked | GroupChanged

_EVENTS: TypeAdapter[ControlEvent] = TypeAdapter(Annotated[ControlEvent, Field(discriminator="type")])


def encode_event(event: ControlEvent) -> bytes:
    return event.model_dump_json().encode()


def decode_event(record: bytes) -> ControlEvent:
    """Raises ValueError (pydantic's) on bytes that are no event of ours."""
    return _EVENTS.validate_json(record)
