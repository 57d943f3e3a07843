"""Routes of Databricks that Penstock does not offer: a 400 that says which, where a 404 would read as a wrong path.

The rows ranked LATER in databricks_surface §1.2; none of them may look as if it had been done.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

from services.shared.errors import RequestRejected

ROUTES = (
    ("POST", "/api/2.0/serving-endpoints/pt", "Provisioned throughput endpoints"),
    ("PUT", "/api/2.0/serving-endpoints/pt/{name}/config", "Provisioned throughput endpoints"),
    ("POST", "/api/2.0/external-function", "External functions"),
    ("POST", "/serving-endpoints/chat/completions", "OpenAI-style routes"),
    ("POST", "/serving-endpoints/responses", "OpenAI-style routes"),
    ("POST", "/serving-endpoints/embeddings", "OpenAI-style routes"),
    ("POST", "/realtime-inference/{name}/invocations", "Routes under '/realtime-inference' (use '/serving-endpoints')"),
)


class NotOffered(RequestRejected):
    """Databricks has this; Penstock has not."""


def unsupported_routes() -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    for method, path, what in ROUTES:
        router.add_api_route(path, _refusing(what), methods=[method])
    return router


def _refusing(what: str) -> Callable[[], Awaitable[Response]]:
    async def refuse() -> Response:
        raise NotOffered(f"{what} are not supported.")

    return refuse
