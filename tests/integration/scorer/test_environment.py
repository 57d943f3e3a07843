"""One real environment, built with uv from an index."""

from pathlib import Path

import pytest

from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.environment import HOST_PYTHON, build_environment, read_mark
from services.scorer.requirements import EnvironmentSpec


async def test_builds_once_and_keeps_it(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    absent_patch = HOST_PYTHON.rsplit(".", 1)[0] + ".99"  # falls back to the same minor
    spec = EnvironmentSpec(absent_patch, ("msgpack",))
    python = await build_environment(spec, tmp_path, tmp_path, BuildLog(log))
    assert (await BuildLog(log).run(python, "-c", "import msgpack"))[0] == 0
    assert await build_environment(spec, tmp_path, tmp_path, BuildLog(log)) == python
    assert "is there already" in log.read_text()
    mark = read_mark(tmp_path, spec.digest)
    assert mark is not None
    assert mark[1] > 100_000  # bytes: an interpreter's links and one package


async def test_what_cannot_be_resolved_fails_with_the_reason(tmp_path: Path) -> None:
    spec = EnvironmentSpec(HOST_PYTHON, ("msgpack==0.0.0.1",))
    with pytest.raises(DeploymentFailed, match="msgpack"):
        await build_environment(spec, tmp_path, tmp_path, BuildLog(tmp_path / "build.log"))
