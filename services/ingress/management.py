"""The management routes: thin shells that validate, publish an event and answer with what the fold made of it."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from services.ingress.access_lists import AccessListsApi, access_list_routes
from services.ingress.api_document import allowed, api_routes
from services.ingress.batch_routes import BatchesApi, batch_routes
from services.ingress.bodies import read_json_object
from services.ingress.endpoint_logs import build_log, pool_of, service_log
from services.ingress.endpoint_view import detailed, summary, tags
from services.ingress.http_errors import HANDLERS, json_response, on_http_exception
from services.ingress.kept_answers import KeptAnswers
from services.ingress.kept_invocations import KeptApi, kept_routes
from services.ingress.lifecycle import Lifecycle, lifecycle_routes
from services.ingress.observability import Observability, observability_routes
from services.ingress.openapi import OpenApi, openapi_routes
from services.ingress.payloads import (
    parse_config,
    parse_create,
    parse_gateway,
    parse_rate_limits,
    parse_tags,
    parse_telemetry,
    to_config_spec,
    to_gateway,
    to_legacy_limits,
    to_notifications,
    to_rate_limits,
    to_sampling,
)
from services.ingress.permissions import Guard, Permissions, guarded, permission_routes
from services.ingress.pool_watch import PoolWatch
from services.ingress.rate_limiter import RateLimiter
from services.ingress.registry import Registry
from services.ingress.secret_rights import readable_secret
from services.ingress.secret_scopes import SecretScopes, secret_routes
from services.ingress.settings import IngressServiceSettings
from services.ingress.statement_routes import StatementExecution, statement_routes
from services.ingress.statements import Statements
from services.ingress.tokens import TokensApi, token_routes
from services.ingress.topics import TopicsApi, topic_routes
from services.ingress.unsupported import unsupported_routes
from services.ingress.variables import Sealing
from services.ingress.workspace import Workspace, workspace_routes
from services.ingress.workspace_files import WorkspaceFiles
from services.shared.clock import now_ms
from services.shared.control_events import (
    ConfigRequested,
    ConfigSpec,
    EndpointCreated,
    EndpointDeleted,
    GatewayChanged,
    RateLimitsChanged,
    SamplingChanged,
    TableConfig,
    TagsChanged,
    UpdateCanceled,
)
from services.shared.endpoints import ControlState, Token
from services.shared.errors import LimitExceeded, ParameterInvalid
from services.shared.event_log import EventLog
from services.shared.rights import USERS, Level, groups_of, level_of, require
from services.shared.secret_box import SecretBox

WORKSPACE_ID = "1"  # Terraform needs an integer here (databricks_surface §1.1b)
ACCOUNT_ID = "00000000-0000-0000-0000-000000000001"
ENDPOINTS = "/api/2.0/serving-endpoints"
MAX_ENDPOINTS = 1_000  # of a workspace (databricks_surface §2.4); two creates at the same time may pass it by one


class Management:
    """Create, read, update and delete endpoints. Reads first fold to the log's end; writes return what was folded (R9)."""

    def __init__(
        self,
        settings: IngressServiceSettings,
        events: EventLog,
        registry: Registry,
        pools: PoolWatch,
        limiter: RateLimiter,
        kept: KeptAnswers,
    ) -> None:
        self._events = events
        self._registry = registry
        self._box = SecretBox.from_file(settings.key_file)
        self._pools = pools
        self._logs = settings.logs_folder
        self._quota = settings.ingress.max_provisioned_concurrency
        self.lifecycle = Lifecycle(events, pools, self._quota)
        self.openapi = OpenApi(events, registry)
        self.permissions = Permissions(events)
        self.secrets = SecretScopes(events, self._box)
        self.statements = Statements(settings.statements_folder, settings.tables_place)
        self.execution = StatementExecution(events, self.statements)
        self.workspace = Workspace(events, WorkspaceFiles(settings.workspace_folder))
        self.batches = BatchesApi(settings, events)
        self.kept = KeptApi(kept, events)
        self.access_lists = AccessListsApi(events)
        self.tokens = TokensApi(events)
        self.topics = TopicsApi(events, settings.kafka)
        self.guard = Guard(events, limiter)

    async def create(self, request: Request, caller: Token) -> Response:
        sent = parse_create(await read_json_object(request))
        state = await self._events.refresh()
        if len(state.endpoints) >= MAX_ENDPOINTS:
            raise LimitExceeded(f"The workspace holds {MAX_ENDPOINTS} endpoints, and may hold no more.")
        config = to_config_spec(sent.config, sent.name, self._sealing(caller, state))
        gateway = to_gateway(sent.ai_gateway, sent.name) if sent.ai_gateway else {}
        gateway |= to_legacy_limits(sent)
        if gateway.get("inference_table_config") and config.auto_capture:
            raise ParameterInvalid("'auto_capture_config' and 'ai_gateway.inference_table_config' exclude each other.")
        table = (
            TableConfig.model_validate(gateway["inference_table_config"]) if "inference_table_config" in gateway else config.auto_capture
        )
        sampling = to_sampling(sent.telemetry_config, table)
        await self._require_models(config)
        event = EndpointCreated(
            at_ms=now_ms(),
            name=sent.name,
            creator=caller.principal,
            creator_kind=caller.kind,
            config=config,
            description=sent.description or "",
            tags=tuple((tag.key, tag.value) for tag in sent.tags),
            gateway=gateway,
            route_optimized=sent.route_optimized,
            notifications=to_notifications(sent.email_notifications) if sent.email_notifications else None,
            sampling_fraction=sampling,
            quota=self._quota,
        )
        return self._view(await self._events.publish(event), sent.name)

    async def list(self, caller: Token) -> Response:
        """Those the caller may see."""
        state = await self._events.refresh()
        seen = [endpoint for endpoint in state.endpoints.values() if level_of(caller, endpoint, state)]
        return json_response({"endpoints": [summary(endpoint) for endpoint in seen]})

    async def get(self, name: str, caller: Token) -> Response:
        state = await self._events.refresh()
        endpoint = state.endpoint(name)
        level = require(Level.CAN_VIEW, caller, endpoint, state)
        return json_response(detailed(endpoint, self._pools.reports(), level.name, self._pools.table_faults()))

    async def update_config(self, name: str, request: Request, caller: Token) -> Response:
        sent = parse_config(await read_json_object(request))
        state = await self._events.refresh()
        endpoint = guarded(request, state)
        config = to_config_spec(sent, name, self._sealing(caller, state))
        if config.auto_capture and endpoint.gateway.get("inference_table_config"):
            raise ParameterInvalid("This endpoint logs by 'ai_gateway.inference_table_config'; both at once are not possible.")
        await self._require_models(config)
        event = ConfigRequested(
            at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, based_on=endpoint.latest_version, config=config, quota=self._quota
        )
        return self._view(await self._events.publish(event), name)

    async def cancel_update(self, name: str, request: Request) -> Response:
        """Databricks has this in its UI only; the route is ours. The old config serves on."""
        endpoint = guarded(request, await self._events.refresh())
        event = UpdateCanceled(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, version=endpoint.latest_version)
        return self._view(await self._events.publish(event), name)

    async def put_gateway(self, name: str, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        gateway = to_gateway(parse_gateway(await read_json_object(request)), name)
        if gateway.get("inference_table_config") and endpoint.active and endpoint.active.spec.auto_capture:
            raise ParameterInvalid("This endpoint logs by 'auto_capture_config'; both at once are not possible.")
        await self._events.publish(GatewayChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, gateway=gateway))
        return json_response(gateway)

    async def change_telemetry(self, name: str, request: Request) -> Response:
        """Replaces what was set; without a `telemetry_config` every request is logged again."""
        endpoint = guarded(request, await self._events.refresh())
        sampling = to_sampling(parse_telemetry(await read_json_object(request)), endpoint.table)
        event = SamplingChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, sampling_fraction=sampling)
        return self._view(await self._events.publish(event), name)

    async def change_tags(self, name: str, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        sent = parse_tags(await read_json_object(request))
        added = tuple((tag.key, tag.value) for tag in sent.add_tags)
        event = TagsChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, added=added, removed=tuple(sent.delete_tags))
        return json_response({"tags": tags((await self._events.publish(event)).endpoint(name))})

    async def put_rate_limits(self, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        limits = to_rate_limits(parse_rate_limits(await read_json_object(request)))
        await self._events.publish(RateLimitsChanged(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id, rate_limits=limits))
        return json_response({"rate_limits": [limit.model_dump(exclude_none=True) for limit in limits]})

    async def build_log(self, request: Request, served: str, config_version: str | None = None) -> Response:
        return await self._log(build_log, request, served, config_version)

    async def service_log(self, request: Request, served: str, config_version: str | None = None) -> Response:
        return await self._log(service_log, request, served, config_version)

    async def delete(self, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        await self._events.publish(EndpointDeleted(at_ms=now_ms(), endpoint_id=endpoint.endpoint_id))
        return json_response({})

    async def _log(self, read: Callable[[Path, str], str], request: Request, served: str, config_version: str | None) -> Response:
        pool_id = pool_of(guarded(request, await self._events.refresh()), served, config_version, self._logs)
        return json_response({"logs": await asyncio.to_thread(read, self._logs, pool_id)})

    def who(self, caller: Token) -> dict[str, Any]:
        """In SCIM's words. The id is the same for every token of a principal."""
        groups = sorted(groups_of(caller, self._events.snapshot()) - {USERS})
        return {
            "id": str(int(sha256(f"{caller.kind}:{caller.principal}".encode()).hexdigest()[:12], 16)),
            "userName": caller.principal,
            "displayName": caller.principal,
            "active": True,
            "groups": [{"display": name, "value": name} for name in [*groups, USERS]],
        }

    def _sealing(self, caller: Token, state: ControlState) -> Sealing:
        return Sealing(self._box.seal, lambda scope, key: readable_secret(scope, key, caller, state))

    async def _require_models(self, config: ConfigSpec) -> None:
        for entity in config.entities:
            await self._registry.require(entity)

    def _view(self, state: ControlState, name: str) -> Response:
        return json_response(detailed(state.endpoint(name), self._pools.reports()))


def management_app(management: Management, observability: Observability) -> FastAPI:
    app = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers=HANDLERS | {HTTPException: _on_http_exception})
    app.add_api_route("/.well-known/databricks-config", _host_metadata, methods=["GET"])
    caller = [Depends(management.guard.caller)]
    app.include_router(api_routes())
    app.include_router(unsupported_routes(), dependencies=caller)  # first, since an endpoint's name would match some of them
    app.include_router(_endpoint_routes(management))
    app.include_router(permission_routes(management.permissions, management.guard))
    app.include_router(access_list_routes(management.access_lists, management.guard))
    app.include_router(token_routes(management.tokens, management.guard))
    app.include_router(secret_routes(management.secrets, management.guard))
    app.include_router(workspace_routes(management.workspace, management.guard))
    app.include_router(statement_routes(management.execution, management.guard))
    app.include_router(batch_routes(management.batches, management.guard))
    app.include_router(kept_routes(management.kept, management.guard))
    app.include_router(lifecycle_routes(management.lifecycle, ENDPOINTS), dependencies=caller)
    app.include_router(topic_routes(management.topics, ENDPOINTS, management.guard))
    app.include_router(openapi_routes(management.openapi, ENDPOINTS), dependencies=caller)
    app.include_router(observability_routes(observability, ENDPOINTS, management.guard))
    return app


def _endpoint_routes(management: Management) -> APIRouter:
    caller = Depends(management.guard.caller)
    router = APIRouter(dependencies=[caller], redirect_slashes=False)

    async def create(request: Request, token: Any = caller) -> Response:
        return await management.create(request, token)

    async def listed(token: Any = caller) -> Response:
        return await management.list(token)

    async def get(name: str, token: Any = caller) -> Response:
        return await management.get(name, token)

    async def update_config(name: str, request: Request, token: Any = caller) -> Response:
        return await management.update_config(name, request, token)

    async def me(token: Any = caller) -> Response:
        return json_response(management.who(token), headers={"X-Databricks-Org-Id": WORKSPACE_ID})

    for path in (ENDPOINTS, f"{ENDPOINTS}/"):  # mlflow calls list and create with the slash, the SDK without
        router.add_api_route(path, create, methods=["POST"])
        router.add_api_route(path, listed, methods=["GET"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}", get, methods=["GET"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}", management.delete, methods=["DELETE"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/config", update_config, methods=["PUT"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/config:cancel", management.cancel_update, methods=["POST"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/ai-gateway", management.put_gateway, methods=["PUT"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/telemetry-config", management.change_telemetry, methods=["PATCH"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/tags", management.change_tags, methods=["PATCH"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/served-models/{{served}}/logs", management.service_log, methods=["GET"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/served-models/{{served}}/build-logs", management.build_log, methods=["GET"])
    router.add_api_route(f"{ENDPOINTS}/{{name}}/rate-limits", management.put_rate_limits, methods=["PUT"])
    router.add_api_route("/api/2.0/preview/scim/v2/Me", me, methods=["GET"])
    return router


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Starlette tells of the methods of one route alone, where each method is a route of its own."""
    if error.status_code == 405:
        error.headers = {"Allow": allowed(request.scope["route"].path_format)}
    return await on_http_exception(request, error)


async def _host_metadata(request: Request) -> Response:
    """The probe every Databricks client makes without credentials, on each construction: static and quick."""
    host = str(request.base_url).rstrip("/")
    return json_response(
        {
            "host_type": "workspace",
            "workspace_id": WORKSPACE_ID,
            "account_id": ACCOUNT_ID,
            "cloud": "AWS",
            "oidc_endpoint": f"{host}/oidc",
        }
    )
