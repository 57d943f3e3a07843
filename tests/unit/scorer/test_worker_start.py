"""Starting a model worker: what the system refuses."""

import sys
from pathlib import Path

import pytest

from services.scorer.build_log import DeploymentFailed
from services.scorer.worker_process import start_worker
from services.scorer.worker_spec import WorkerSpec


async def test_variables_that_no_process_can_be_given_fail_the_deployment_without_being_told(tmp_path: Path) -> None:
    spec = WorkerSpec(Path(sys.executable), tmp_path, tmp_path, {"SECRET": "hunter2" * 20_000}, 1, 2**30)
    with pytest.raises(DeploymentFailed, match="environment variables") as refused:
        await start_worker(spec)
    assert "hunter2" not in str(refused.value)
