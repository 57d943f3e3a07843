"""What the management routes answer, as types for the OpenAPI document (databricks_surface §1.4). A field may be absent, never null."""

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from services.shared.endpoints import ConfigUpdate, Deployment

Level = Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"]
_exact = with_config(ConfigDict(extra="forbid"))


@_exact
class ErrorEnvelope(TypedDict):
    error_code: str
    message: str
    details: list[Any]


class ScoringFault(TypedDict):
    """The envelope, or a model's own fault: beside these stand `stack_trace` and its like."""

    error_code: str
    message: str


class Predictions(TypedDict):
    predictions: Any


@_exact
class PendingInvocation(TypedDict):
    """`deadline` in epoch ms: no later than that there is an answer, if one was given."""

    invocation_id: str
    state: Literal["PENDING"]
    deadline: int


@_exact
class Nothing(TypedDict):
    """`{}`"""


@_exact
class EndpointState(TypedDict):
    ready: Literal["READY", "NOT_READY"]
    config_update: ConfigUpdate
    suspend: Literal["NOT_SUSPENDED"]


@_exact
class Tag(TypedDict):
    key: str
    value: NotRequired[str]


@_exact
class EntityRef(TypedDict):
    name: str
    entity_name: str
    entity_version: str


@_exact
class ModelRef(TypedDict):
    name: str
    model_name: str
    model_version: str


@_exact
class ConfigRef(TypedDict):
    served_entities: list[EntityRef]
    served_models: list[ModelRef]


@_exact
class DeploymentState(TypedDict):
    deployment: Deployment
    deployment_state_message: str


class _Served(TypedDict):
    name: str
    id: str
    workload_type: str
    workload_size: NotRequired[str]
    min_provisioned_concurrency: NotRequired[int]
    max_provisioned_concurrency: NotRequired[int]
    scale_to_zero_enabled: bool
    environment_vars: NotRequired[dict[str, str]]
    state: DeploymentState
    creator: str
    creation_timestamp: int


@_exact
class ServedEntityView(_Served):
    entity_name: str
    entity_version: str


@_exact
class ServedModelView(_Served):
    model_name: str
    model_version: str


@_exact
class RouteView(TypedDict):
    served_model_name: str
    served_entity_name: str
    traffic_percentage: int


@_exact
class TrafficView(TypedDict):
    routes: list[RouteView]


@_exact
class PayloadTable(TypedDict):
    """FAILED while its rows cannot be written, which wait as dead letters; scoring goes on."""

    name: str
    status: Literal["READY", "FAILED"]
    status_message: str


@_exact
class AutoCaptureState(TypedDict):
    payload_table: PayloadTable


@_exact
class TableView(TypedDict):
    catalog_name: str
    schema_name: str
    table_name_prefix: str
    enabled: bool


@_exact
class AutoCaptureView(TableView):
    state: AutoCaptureState


@_exact
class GatewayTableView(TableView):
    state: NotRequired[AutoCaptureState]


class _Config(TypedDict):
    served_entities: list[ServedEntityView]
    served_models: list[ServedModelView]
    traffic_config: TrafficView
    auto_capture_config: NotRequired[AutoCaptureView]
    config_version: int


@_exact
class ConfigView(_Config):
    pass


@_exact
class PendingConfigView(_Config):
    start_time: int


@_exact
class UsageTracking(TypedDict):
    enabled: bool


@_exact
class RateLimitView(TypedDict):
    calls: int
    key: Literal["user", "endpoint", "service_principal"]
    renewal_period: Literal["minute"]
    principal: NotRequired[str]


@_exact
class RateLimits(TypedDict):
    rate_limits: list[RateLimitView]


@_exact
class Gateway(TypedDict):
    inference_table_config: NotRequired[GatewayTableView]
    usage_tracking_config: NotRequired[UsageTracking]
    rate_limits: NotRequired[list[RateLimitView]]


@_exact
class Sampling(TypedDict):
    name: NotRequired[str]
    sampling_fraction: float


@_exact
class Telemetry(TypedDict):
    inference_table_config: Sampling


@_exact
class EmailNotifications(TypedDict):
    on_update_success: NotRequired[list[str]]
    on_update_failure: NotRequired[list[str]]


@_exact
class Notified(TypedDict):
    name: str
    email_notifications: EmailNotifications


class _Endpoint(TypedDict):
    name: str
    id: str
    creator: str
    creation_timestamp: int
    last_updated_timestamp: int
    state: EndpointState
    tags: list[Tag]
    description: str
    ai_gateway: NotRequired[Gateway]
    telemetry_config: NotRequired[Telemetry]


@_exact
class EndpointSummary(_Endpoint):
    config: ConfigRef


@_exact
class EndpointDetailed(_Endpoint):
    """`config` is absent until the first success."""

    permission_level: Level
    route_optimized: bool
    creator_display_name: str
    resource_credential_strategy: Literal["EMBEDDED_CREDENTIALS"]
    email_notifications: NotRequired[EmailNotifications]
    config: NotRequired[ConfigView]
    pending_config: NotRequired[PendingConfigView]


@_exact
class EndpointList(TypedDict):
    endpoints: list[EndpointSummary]


@_exact
class Tags(TypedDict):
    tags: list[Tag]


@_exact
class Logs(TypedDict):
    logs: str


@_exact
class EventView(TypedDict):
    """What befell an endpoint; INFO is what was done with a pool of its, or seen of one."""

    event_type: Literal["ENDPOINT_UPDATE_EVENT", "SERVED_ENTITY_CONTAINER_EVENT", "POOL_RESIZED", "REPLICA_FAILED", "WORKERS_NOT_FORKED"]
    status: Literal["IN_PROGRESS", "SUCCESS", "FAILED", "CANCELED", "INFO"]
    message: str
    timestamp: int


@_exact
class Events(TypedDict):
    events: list[EventView]


@_exact
class DirectPermission(TypedDict):
    permission_level: Level
    inherited: Literal[False]


@_exact
class AccessEntry(TypedDict):
    """One of the three names says whose it is."""

    user_name: NotRequired[str]
    group_name: NotRequired[str]
    service_principal_name: NotRequired[str]
    display_name: str
    all_permissions: list[DirectPermission]


@_exact
class AccessControl(TypedDict):
    object_id: str
    object_type: Literal["serving-endpoint"]
    access_control_list: list[AccessEntry]


@_exact
class PermissionLevel(TypedDict):
    permission_level: Level
    description: str


@_exact
class PermissionLevels(TypedDict):
    permission_levels: list[PermissionLevel]


@_exact
class GroupRef(TypedDict):
    display: str
    value: str


@_exact
class Me(TypedDict):
    id: str
    userName: str
    displayName: str
    active: Literal[True]
    groups: list[GroupRef]


@_exact
class HostMetadata(TypedDict):
    host_type: Literal["workspace"]
    workspace_id: str
    account_id: str
    cloud: Literal["AWS"]
    oidc_endpoint: str


@_exact
class Health(TypedDict):
    status: Literal["alive", "ready"]


@_exact
class WorkspaceObject(TypedDict):
    path: str
    object_id: int
    resource_id: str
    object_type: Literal["DIRECTORY", "FILE"]
    size: NotRequired[int]
    created_at: NotRequired[int]
    modified_at: NotRequired[int]


@_exact
class WorkspaceObjects(TypedDict):
    objects: list[WorkspaceObject]


@_exact
class Exported(TypedDict):
    """With `direct_download` the file's own bytes instead."""

    content: str
    file_type: Literal["file"]


@_exact
class TelemetryTaken(TypedDict):
    errors: list[Any]
    numSuccess: int
    numProtoSuccess: int


@_exact
class SecretScopeItem(TypedDict):
    name: str
    backend_type: Literal["DATABRICKS"]


@_exact
class SecretScopeList(TypedDict):
    scopes: list[SecretScopeItem]


@_exact
class SecretItem(TypedDict):
    key: str
    last_updated_timestamp: int


@_exact
class SecretList(TypedDict):
    secrets: list[SecretItem]


@_exact
class SecretAcl(TypedDict):
    principal: str
    permission: Literal["READ", "WRITE", "MANAGE"]


@_exact
class SecretAcls(TypedDict):
    items: list[SecretAcl]


@_exact
class AccessListView(TypedDict):
    list_id: str
    label: str
    list_type: Literal["ALLOW", "BLOCK"]
    ip_addresses: list[str]
    address_count: int
    enabled: bool
    created_at: int
    updated_at: int


@_exact
class OneAccessList(TypedDict):
    ip_access_list: AccessListView


@_exact
class AccessListList(TypedDict):
    ip_access_lists: list[AccessListView]


class _Token(TypedDict):
    token_id: str
    comment: str
    creation_time: int
    expiry_time: int


@_exact
class TokenInfo(_Token):
    pass


@_exact
class ManagedTokenInfo(_Token):
    created_by_username: str


@_exact
class NewToken(TypedDict):
    token_value: str
    token_info: TokenInfo


@_exact
class NewManagedToken(TypedDict):
    token_value: str
    token_info: ManagedTokenInfo


@_exact
class TokenList(TypedDict):
    token_infos: list[TokenInfo]


@_exact
class OneManagedToken(TypedDict):
    token_info: ManagedTokenInfo


@_exact
class ManagedTokenList(TypedDict):
    token_infos: list[ManagedTokenInfo]


@_exact
class WorkspaceConf(TypedDict):
    enableIpAccessLists: Literal["true", "false"]


@_exact
class StatementError(TypedDict):
    error_code: str
    message: str


@_exact
class StatementStatus(TypedDict):
    state: Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"]
    error: NotRequired[StatementError]


@_exact
class ColumnView(TypedDict):
    name: str
    position: int
    type_name: str
    type_text: str


@_exact
class StatementSchema(TypedDict):
    column_count: int
    columns: list[ColumnView]


@_exact
class ChunkRef(TypedDict):
    chunk_index: int
    row_offset: int
    row_count: int
    byte_count: int


@_exact
class StatementManifest(TypedDict):
    format: Literal["JSON_ARRAY", "ARROW_STREAM", "CSV"]
    schema: StatementSchema
    total_chunk_count: int
    chunks: list[ChunkRef]
    total_row_count: int
    total_byte_count: int
    truncated: bool


@_exact
class ExternalLink(ChunkRef):
    external_link: str
    expiration: str
    next_chunk_index: NotRequired[int]
    next_chunk_internal_link: NotRequired[str]


@_exact
class StatementChunk(TypedDict):
    """Rows in `data_array`, every value as text, or a link to them."""

    chunk_index: NotRequired[int]
    row_offset: NotRequired[int]
    row_count: NotRequired[int]
    byte_count: NotRequired[int]
    next_chunk_index: NotRequired[int]
    next_chunk_internal_link: NotRequired[str]
    data_array: NotRequired[list[list[str | None]]]
    external_links: NotRequired[list[ExternalLink]]


@_exact
class StatementTold(TypedDict):
    statement_id: str
    status: StatementStatus
    manifest: NotRequired[StatementManifest]
    result: NotRequired[StatementChunk]


@_exact
class BatchCounts(TypedDict):
    rows: NotRequired[int]
    succeeded: int
    failed: int


@_exact
class BatchSource(TypedDict):
    kind: Literal["INLINE", "NDJSON", "CSV", "PARQUET", "TABLE", "SQL"]
    bytes: NotRequired[int]
    table: NotRequired[str]
    sql: NotRequired[str]


@_exact
class BatchView(TypedDict):
    """Times are epoch ms. `rows` is there once the input was read; rows with an error are `failed`, and the batch is not."""

    batch_id: str
    endpoint_name: str
    creator: str
    state: Literal["PENDING", "RUNNING", "CANCELING", "SUCCEEDED", "FAILED", "CANCELED"]
    counts: BatchCounts
    creation_timestamp: int
    source: NotRequired[BatchSource]
    output_table: NotRequired[str]
    end_timestamp: NotRequired[int]
    estimated_end_timestamp: NotRequired[int]
    message: NotRequired[str]


@_exact
class BatchList(TypedDict):
    batches: list[BatchView]


@_exact
class Topics(TypedDict):
    """`requester` is whose requests those of the topic are."""

    enabled: bool
    requests_topic: str
    results_topic: str
    bootstrap_servers: str
    requester: NotRequired[str]
