"""The files of a pool's model version, fetched from MLflow once a node, and kept by pool when all of them are there."""

import os
import shutil
import sys
from pathlib import Path

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.node_lock import node_lock
from services.scorer.pool_files import model_folder, model_lock, model_origin, partial_model_folder
from services.shared.endpoints import Pool


async def fetch_model(pool: Pool, state: Path, tracking_uri: str, build_log: BuildLog) -> Path:
    """Return the model's folder. It is kept by pool: a pool never changes its model, and wakes without asking MLflow.

    Raises DeploymentFailed when MLflow does not hand it out, whole.
    """
    folder, partial = model_folder(state, pool.pool_id), partial_model_folder(state, pool.pool_id)
    origin = model_origin(state, pool.pool_id)
    async with node_lock(model_lock(state, pool.pool_id)):
        if folder.is_dir():
            return folder
        uri = f"models:/{pool.spec.model_name}/{pool.spec.model_version}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        build_log.write(f"Fetching {uri} from MLflow.")
        env = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        env.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        code, said = await build_log.run(sys.executable, "-m", "services.scorer.model_download", uri, partial, origin, env=env)
        if code or not (partial / "MLmodel").is_file():
            reason = said.splitlines()[-1] if said else f"the download ended with {code}"
            raise DeploymentFailed(f"The model {uri} cannot be fetched: {reason}")
        partial.rename(folder)
    return folder
