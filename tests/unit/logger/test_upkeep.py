"""What upkeep of a table is due, from its version and the age of its checkpoint alone."""

from bisect import bisect_left, bisect_right
from itertools import pairwise

import pytest

from services.logger.settings import LoggerSettings
from services.logger.upkeep import is_due, is_vacuum_due, memory_s

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("before", "after", "due"),
    [
        pytest.param(0, 1, False, id="the first commit of a table"),
        pytest.param(48, 49, False, id="short of a multiple"),
        pytest.param(49, 50, True, id="a multiple"),
        pytest.param(50, 51, False, id="the commit after it, so what failed waits for the next"),
        pytest.param(47, 53, True, id="a commit that came after those of another logger, which passed a multiple"),
        pytest.param(49, 201, True, id="several multiples are one upkeep"),
    ],
)
def test_upkeep_is_due_when_a_commit_passes_a_multiple(before: int, after: int, due: bool) -> None:
    assert is_due(before, after, 50) is due


@pytest.mark.parametrize("vacuum_retention_h", [1.0, 24.0, 168.0])
@pytest.mark.parametrize(
    "every_h",
    [pytest.param(0.014, id="a commit a second"), pytest.param(7.3, id="one in nine minutes"), pytest.param(400.0, id="three a day")],
)
def test_every_merged_file_is_deleted_before_the_log_forgets_it(vacuum_retention_h: float, every_h: float) -> None:
    """A vacuum finds what checkpoints still name: a daily one had missed nearly all."""
    settings = LoggerSettings(vacuum_retention_h=vacuum_retention_h, log_retention_h=0.5)
    upkeeps = [number * every_h * HOUR_S + 1_700_000_000 for number in range(max(5, round(3 * vacuum_retention_h / every_h)))]
    vacuums = [now for last, now in pairwise(upkeeps) if is_vacuum_due(last, now, settings)]
    merged = [at for at in upkeeps if at < upkeeps[-1] - memory_s(settings) - every_h * HOUR_S]
    assert merged
    for at in merged:
        vacuumed = vacuums[bisect_right(vacuums, at + settings.merged_files_h * HOUR_S)]
        last_checkpoint = upkeeps[bisect_left(upkeeps, vacuumed) - 1]
        assert last_checkpoint < at + memory_s(settings)


def test_a_table_that_never_had_a_checkpoint_is_vacuumed_with_its_first() -> None:
    assert is_vacuum_due(None, 1_700_000_000, LoggerSettings())


def test_merged_files_stay_as_long_as_the_versions_that_have_them() -> None:
    assert LoggerSettings(vacuum_retention_h=24, log_retention_h=72).merged_files_h == 72
