"""Which pool's logs are meant, and what is shown of them."""

import json
from pathlib import Path

import pytest

from services.ingress.endpoint_logs import NEWEST_BYTES, ServedEntityNotFound, build_log, pool_of, service_log
from services.shared.endpoints import ControlState
from services.shared.errors import ParameterInvalid
from tests.unit.shared.control_log import config, created, failed, fold, ready, requested

SERVING = fold(created(config("1")), ready("a"))
UPDATING = fold(requested(config("2"), 1), state=SERVING)
FAILED = fold(failed("a", version=2), state=UPDATING)


@pytest.mark.parametrize(
    ("state", "version", "pool_id"),
    [
        pytest.param(SERVING, None, "e1-a-1", id="the one that serves"),
        pytest.param(UPDATING, None, "e1-a-2", id="the one that is being deployed"),
        pytest.param(FAILED, None, "e1-a-2", id="the one that failed"),
        pytest.param(FAILED, "1", "e1-a-1", id="the one that was asked for"),
    ],
)
def test_pool_of(state: ControlState, version: str | None, pool_id: str, tmp_path: Path) -> None:
    assert pool_of(state.endpoints["churn"], "a", version, tmp_path) == pool_id


LATER = fold(requested(config("3"), 2), ready("a", version=3), state=FAILED)


@pytest.mark.parametrize(
    ("served", "version", "pool_id"),
    [
        pytest.param("a", "2", "e1-a-2", id="of a failed update that another followed"),
        pytest.param("old", None, "e1-old-2", id="of an entity no config has any more, the newest"),
        pytest.param("old", "1", "e1-old-1", id="of the version that was asked for"),
        pytest.param("old", "3", "e1-old-2", id="of one that went on with the pool it found"),
    ],
)
def test_pools_of_configs_that_are_gone(served: str, version: str | None, pool_id: str, tmp_path: Path) -> None:
    for built in ("e1-a-1", "e1-a-2", "e1-old-1", "e1-old-2", "e1-old-9-1", "e2-old-3"):
        (tmp_path / f"build-{built}.log").touch()
    assert pool_of(LATER.endpoints["churn"], served, version, tmp_path) == pool_id


@pytest.mark.parametrize(
    ("served", "version", "error"),
    [
        pytest.param("b", None, ServedEntityNotFound, id="no such entity"),
        pytest.param("a", "7", ServedEntityNotFound, id="no such version"),
        pytest.param("a", "../1", ParameterInvalid, id="no version at all"),
        pytest.param("a", "1" * 5_000, ParameterInvalid, id="a number nobody can read"),
    ],
)
def test_what_is_not_there(served: str, version: str | None, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        pool_of(SERVING.endpoints["churn"], served, version, tmp_path)


def entry(time: str, message: str, **more: str) -> str:
    return json.dumps({"time": time, "message": message, **more}) + "\n"


def test_the_service_log_is_what_the_models_said_in_all_replicas(tmp_path: Path) -> None:
    (tmp_path / "scorer-e1-a-1-0.log").write_text(entry("10:00", "model output", line="hello") + entry("10:02", "partitions assigned"))
    (tmp_path / "scorer-e1-a-1-1.log").write_text("{cut\n" + entry("10:01", "model worker died under a request"))
    (tmp_path / "scorer-e1-a-1-2-0.log").write_text(entry("10:00", "model output", line="that of an entity called a-1"))
    (tmp_path / "scorer-e1-a-10-0.log").write_text(entry("10:00", "model output", line="another pool's"))
    assert service_log(tmp_path, "e1-a-1") == "10:00 hello\n10:01 model worker died under a request\n"


def test_of_a_long_log_the_newest_whole_lines_are_shown(tmp_path: Path) -> None:
    (tmp_path / "build-e1-a-1.log").write_text("old\n" + "x" * NEWEST_BYTES + "\nnew\n")
    assert build_log(tmp_path, "e1-a-1") == "new\n"
    assert build_log(tmp_path, "e1-a-2") == ""
