import os
from pathlib import Path

import pytest

from services.cli.failures import StackFailure
from services.cli.log_files import REPLICA_LOGS_KEPT, ROTATE_BYTES, prune_build_logs, prune_replica_logs, rotate_all
from services.cli.log_viewer import matching_logs, recent_lines

POOL = "5e090088725d4ea69812363f5619cfd1-fraud-1-2"


def test_a_large_log_is_emptied_under_its_writer_who_goes_on_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "small.log").write_text("kept\n")
    with (tmp_path / "large.log").open("ab", buffering=0) as writer:
        writer.write(b"x" * (ROTATE_BYTES + 1))
        rotate_all(tmp_path)
        writer.write(b"next\n")
    assert (tmp_path / "large.log").read_text() == "next\n"
    assert (tmp_path / "large.log.old").stat().st_size == ROTATE_BYTES + 1
    assert (tmp_path / "small.log").read_text() == "kept\n"


def test_build_logs_are_kept_for_thirty_days(tmp_path: Path) -> None:
    for name, age_days in {"build-old": 31, "build-new": 29, "scorer-old": 31}.items():
        (tmp_path / f"{name}.log").touch()
        os.utime(tmp_path / f"{name}.log", (0, -age_days * 86_400 + 10**9))
    prune_build_logs(tmp_path, 10**9)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["build-new.log", "scorer-old.log"]


def test_logs_of_replicas_that_are_gone_are_pruned_however_quiet_the_others_are(tmp_path: Path) -> None:
    """What a replica wrote to a file that was removed was seen by nobody, and filled the disk."""
    quiet, its_copy = tmp_path / "scorer-quiet.log", tmp_path / "scorer-quiet.log.old"
    gone = [tmp_path / f"scorer-{number}.log" for number in range(REPLICA_LOGS_KEPT + 2)]
    for age_s, file in enumerate((*reversed(gone), quiet, its_copy)):
        file.touch()
        os.utime(file, (0, 10**9 - age_s))
    prune_replica_logs(tmp_path, {quiet})
    assert sorted(tmp_path.iterdir()) == sorted((*gone[2:], quiet, its_copy))


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        pytest.param("kafka", ["of kafka"], id="one process, its lines as they are"),
        pytest.param("scorer", ["of 0"], id="a service"),
        pytest.param("build", ["of the build"], id="the builds"),
        pytest.param("fraud-1", ["build fraud-1: of the build", "scorer fraud-1 (replica 0): of 0"], id="a served entity"),
    ],
)
def test_logs_are_found_by_what_a_person_calls_them(tmp_path: Path, asked: str, shown: list[str]) -> None:
    for name, line in {"kafka": "of kafka", f"scorer-{POOL}-0": "of 0", f"build-{POOL}": "of the build"}.items():
        (tmp_path / f"{name}.log").write_text(f"{line}\n")
    assert list(recent_lines(matching_logs(tmp_path, asked))) == shown


def test_an_unknown_log_is_answered_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / f"scorer-{POOL}-0.log").touch()
    with pytest.raises(StackFailure, match="no log of fraud; there are: fraud-1, scorer"):
        matching_logs(tmp_path, "fraud")
