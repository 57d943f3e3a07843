"""Which workers are started afresh, and what a warm parent is told to import."""

import os
from pathlib import Path

import pytest

from services.scorer.imported_modules import MOST_NAMES, add_imports, imports_file
from services.scorer.worker_source import NOTE_KEPT_S, why_fresh
from services.scorer.worker_spec import WorkerSpec

NOW = 10**9


@pytest.mark.parametrize(
    ("variables", "note", "age_s", "says"),
    [
        pytest.param({}, None, 0, "", id="a model like most may be forked"),
        pytest.param({"PENSTOCK_MICRO_BATCHING": "off"}, None, 0, "", id="our own variables are read after the fork"),
        pytest.param({"OMP_NUM_THREADS": "1"}, None, 0, "environment variables", id="libraries read others when they are imported"),
        pytest.param({}, "It died.", NOTE_KEPT_S - 1, "It died.", id="what was seen to fail is not tried again"),
        pytest.param({}, "It died.", NOTE_KEPT_S, "", id="not for ever: a fork may have been killed for what has passed"),
    ],
)
def test_why_a_worker_is_started_afresh(tmp_path: Path, variables: dict[str, str], note: str | None, age_s: float, says: str) -> None:
    file = tmp_path / "note"
    if note is not None:
        file.write_text(note)
        os.utime(file, (NOW, NOW - age_s))
    spec = WorkerSpec(Path("/environment/bin/python"), tmp_path, tmp_path, variables, 1, 1)
    reason = why_fresh(spec, file, NOW)
    assert says in reason
    assert bool(reason) == bool(says)


def test_imports_only_grow_in_the_order_in_which_they_were_told_and_hold_names_alone(tmp_path: Path) -> None:
    add_imports(tmp_path, ["os", "mlflow", "mlflow.pyfunc"])
    add_imports(tmp_path, ["sklearn.svm", "os", "no name", "sklearn..svm", "; exit"])
    assert imports_file(tmp_path).read_text().split() == ["os", "mlflow", "mlflow.pyfunc", "sklearn.svm"]


def test_a_file_of_imports_that_is_full_is_not_written_again(tmp_path: Path) -> None:
    """Each new name once had the warm parent begin anew."""
    add_imports(tmp_path, (f"module_{number}" for number in range(MOST_NAMES + 1)))
    os.utime(imports_file(tmp_path), (NOW, NOW))
    add_imports(tmp_path, ["another"])
    assert len(imports_file(tmp_path).read_text().split()) == MOST_NAMES
    assert imports_file(tmp_path).stat().st_mtime == NOW
