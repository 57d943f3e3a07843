"""`GET …/openapi`: what an endpoint's served models take, as OpenAPI 3.1 (databricks_surface §1.2)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from services.ingress.http_errors import json_response
from services.ingress.permissions import guarded
from services.ingress.registry import Registry
from services.ingress.signatures import Signature, read_signature, request_schema
from services.shared.endpoints import Endpoint
from services.shared.errors import RequestRejected
from services.shared.event_log import EventLog


class NotDescribable(RequestRejected):
    """Nothing serves, or no model that serves was saved with a signature."""


class OpenApi:
    """The signature is read from MLflow at each call: a model version never changes, but few ask for it twice."""

    def __init__(self, events: EventLog, registry: Registry) -> None:
        self._events = events
        self._registry = registry

    async def describe(self, name: str, request: Request) -> Response:
        endpoint = guarded(request, await self._events.refresh())
        if endpoint.serving is None:
            raise NotDescribable(f"Endpoint '{name}' is not ready, so there is nothing to describe.")
        signatures = {}
        for entity in endpoint.serving.spec.entities:
            mlmodel = await self._registry.mlmodel(entity)
            if signature := await asyncio.to_thread(read_signature, mlmodel):
                signatures[entity.name] = signature
        if not signatures:
            raise NotDescribable(f"No model of endpoint '{name}' was saved with a signature; log it with one to have it described.")
        return json_response(openapi_of(endpoint, str(request.base_url), signatures))


def openapi_routes(openapi: OpenApi, endpoints: str) -> APIRouter:
    """`endpoints` is the path of the list."""
    router = APIRouter(redirect_slashes=False)
    router.add_api_route(f"{endpoints}/{{name}}/openapi", openapi.describe, methods=["GET"])
    return router


def openapi_of(endpoint: Endpoint, host: str, signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """`signatures` by served entity. What is predicted is not described: MLflow holds no model to the outputs of its signature."""
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint.name, "version": str(endpoint.latest_version)},
        "servers": [{"url": f"{host.rstrip('/')}/serving-endpoints/{endpoint.name}"}],
        "paths": {f"/served-models/{entity}/invocations": {"post": _operation(signature)} for entity, signature in signatures.items()},
    }


def _operation(signature: Signature) -> dict[str, Any]:
    answer = {"type": "object", "properties": {"predictions": {}}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": request_schema(signature)}}},
        "responses": {"200": {"description": "The predictions.", "content": {"application/json": {"schema": answer}}}},
    }
