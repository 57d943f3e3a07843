"""Which folders among those of batches are nobody's."""

import os
import time
from pathlib import Path

import pytest

from services.ingress.submissions.batch_runner import ORPHAN_S, is_orphan


@pytest.mark.parametrize(
    ("name", "age_s", "verdict"),
    [
        pytest.param("folder", ORPHAN_S + 60, True, id="one that nobody submitted for a day"),
        pytest.param("folder", ORPHAN_S - 60, False, id="an upload may still come in"),
        pytest.param("file", ORPHAN_S + 60, False, id="the lock is no folder"),
        pytest.param("gone", 0, False, id="an ingress removed it a moment ago"),
    ],
)
def test_a_folder_is_an_orphan_after_a_day(name: str, age_s: float, verdict: bool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in tmp_path.iterdir():
        os.utime(place, (time.time() - age_s,) * 2)
    assert is_orphan(tmp_path / name) is verdict
