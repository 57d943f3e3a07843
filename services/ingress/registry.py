"""Asks the MLflow registry whether a model version exists, before an endpoint is built on it."""

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
        wanted = {"name": entity.model_name, "version": entity.model_version}
        try:
            answer = await self._client.get("/api/2.0/mlflow/model-versions/get", params=wanted)
        except httpx.HTTPError as error:
            raise DependencyLost("The MLflow registry does not answer, so the model version cannot be checked.") from error
        if answer.status_code in (400, 404):
            raise ModelVersionNotFound(f"Model '{entity.model_name}' has no version '{entity.model_version}' in the MLflow registry.")
        if answer.is_error:
            raise DependencyLost(f"The MLflow registry answered with status {answer.status_code}.")

    async def close(self) -> None:
        await self._client.aclose()
