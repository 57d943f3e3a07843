"""MLflow's tracking server on sqlite: its command line, and `python -m services.cli.mlflow_server` itself.

It is MLflow's own application in one process. `mlflow server` would start the same one behind a parent that imports all of
MLflow a second time (250 MB and half of the start), plus a runner for jobs that nobody submits here.
"""

import os
import sys
from pathlib import Path

from services.cli.ports import LOOPBACK

_SELF = "services.cli.mlflow_server"


def mlflow_command(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", _SELF, str(folder), str(port)]


def serve(folder: Path, port: int) -> None:
    """Serve until SIGTERM. The database is made, or checked, before the port opens."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder)  # MLflow leaves a lock file there for good
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    from mlflow.server import (  # heavy, and only the server process needs it
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    database = f"sqlite:///{folder}/mlflow.db"
    os.environ[BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[ARTIFACTS_DESTINATION_ENV_VAR] = str(folder / "artifacts")
    import uvicorn
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, None, "mlflow-artifacts:/")
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host=LOOPBACK, port=port, access_log=False, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
