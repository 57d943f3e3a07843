"""Asks the MLflow registry about model versions: whether one exists, before an endpoint is built on it, and what it was saved as."""

import httpx

from services.shared.control_events import EntitySpec
from services.shared.errors import DependencyLost, RequestRejected

TIMEOUT_S = 10.0


class ModelVersionNotFound(RequestRejected):
    """The registry has no such model version."""

    code = "RESOURCE_DOES_NOT_EXIST"


class Registry:
    def __init__(self, tracking_uri: str) -> None:
        self._client = httpx.AsyncClient(base_url=tracking_uri, timeout=TIMEOUT_S)

    async def require(self, entity: EntitySpec) -> None:
        """Raises ModelVersionNotFound, or DependencyLost when the registry does not answer."""
        await self._ask("/api/2.0/mlflow/model-versions/get", {"name": entity.model_name, "version": entity.model_version})

    async def mlmodel(self, entity: EntitySpec) -> bytes:
        """The `MLmodel` file of a version. Raises ModelVersionNotFound or DependencyLost."""
        wanted = {"name": entity.model_name, "version": entity.model_version, "path": "MLmodel"}
        return (await self._ask("/model-versions/get-artifact", wanted)).content

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, path: str, wanted: dict[str, str]) -> httpx.Response:
        try:
            answer = await self._client.get(path, params=wanted)
        except httpx.HTTPError as error:
            raise DependencyLost("The MLflow registry does not answer, so the model version cannot be looked at.") from error
        if answer.status_code in (400, 404):
            raise ModelVersionNotFound(f"Model '{wanted['name']}' has no version '{wanted['version']}' in the MLflow registry.")
        if answer.is_error:
            raise DependencyLost(f"The MLflow registry answered with status {answer.status_code}.")
        return answer
