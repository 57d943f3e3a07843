"""Asks the MLflow registry about model versions: whether one exists, before an endpoint is built on it, and what it was saved as."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from services.shared.control_events import EntitySpec
from services.shared.errors import DependencyLost, RequestRejected
from services.shared.settings import MIB

TIMEOUT_S = 10.0
MAX_MLMODEL_BYTES = MIB  # real ones have a few KiB; YAML costs a second of CPU for half of this


class ModelVersionNotFound(RequestRejected):
    """The registry has no such model version."""

    code = "RESOURCE_DOES_NOT_EXIST"


class Registry:
    def __init__(self, tracking_uri: str) -> None:
        self._client = httpx.AsyncClient(base_url=tracking_uri, timeout=TIMEOUT_S)

    async def require(self, entity: EntitySpec) -> None:
        """Raises ModelVersionNotFound, or DependencyLost when the registry does not answer."""
        async with self._asked("/api/2.0/mlflow/model-versions/get", {"name": entity.model_name, "version": entity.model_version}):
            return

    async def mlmodel(self, entity: EntitySpec) -> bytes:
        """The `MLmodel` file of a version. Raises ModelVersionNotFound, DependencyLost, or RequestRejected for a huge one."""
        wanted = {"name": entity.model_name, "version": entity.model_version, "path": "MLmodel"}
        content = b""
        async with self._asked("/model-versions/get-artifact", wanted) as answer:
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_MLMODEL_BYTES:
                    raise RequestRejected(f"The MLmodel file of '{entity.model_name}' is larger than {MAX_MLMODEL_BYTES} bytes.")
        return content

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def _asked(self, path: str, wanted: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer, of which the body is still to be read."""
        try:
            async with self._client.stream("GET", path, params=wanted) as answer:
                if answer.status_code in (400, 404):
                    raise ModelVersionNotFound(f"Model '{wanted['name']}' has no version '{wanted['version']}' in the MLflow registry.")
                if answer.is_error:
                    raise DependencyLost(f"The MLflow registry answered with status {answer.status_code}.")
                yield answer
        except httpx.HTTPError as error:
            raise DependencyLost("The MLflow registry does not answer, so the model version cannot be looked at.") from error
