"""Upkeep of an inference table: what keeps commits and readers fast, however old the table is, and its folder small.

What is due follows from the table alone. A logger that has just opened it, or one of several, knows as much as one that wrote all of it.
"""

import fcntl
import time
from pathlib import Path
from urllib.parse import quote

from deltalake import DeltaTable, PostCommitHookProperties

from services.logger.settings import LoggerSettings
from services.shared.table_places import LOG, checkpointed_at, is_folder

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)  # each lists the whole log after every commit
LOG_RETENTION = "delta.logRetentionDuration"
MEMORY_OF_REMOVED = "delta.deletedFileRetentionDuration"
VACUUMS = 4  # in the time that merged files stay, so that each stays a quarter longer at most: a vacuum lists the whole table


def is_due(before: int, after: int, every: int) -> bool:
    """Whether commits from one version of the table to the other passed a multiple of `every`. What fails comes at the next one."""
    return before // every < after // every


def retention_properties(settings: LoggerSettings) -> dict[str, str]:
    return {
        LOG_RETENTION: f"interval {round(settings.log_retention_h * 3600)} seconds",
        MEMORY_OF_REMOVED: f"interval {round(memory_s(settings))} seconds",
    }


def memory_s(settings: LoggerSettings) -> float:
    """For how long checkpoints name a file after it was merged.

    Vacuum deletes what the log names and no other. So that is longer than the file stays, by more than the time between two vacuums; and no
    longer than that, because each checkpoint names them all: 100,000 are 10 MB and 0.3 s [run].
    """
    return settings.merged_files_h * 3600 * (1 + 2 / VACUUMS)


def is_vacuum_due(last_at: float | None, now: float, settings: LoggerSettings) -> bool:
    """Once in each `1 / VACUUMS` of the time that merged files stay. `last_at` and `now` are seconds since the epoch, the first of the
    upkeep before, if there was one.
    """
    every_s = settings.merged_files_h * 3600 / VACUUMS
    return last_at is None or last_at // every_s < now // every_s


def upkeep_lock(path: str, locks: Path | None) -> Path | None:
    """The file that whoever does a table's upkeep holds: in its folder or, as a bucket has no locks, in `locks`."""
    if is_folder(path):
        return Path(path) / LOG / ".merging.lock"
    return locks / f"{quote(path, safe='')}.lock" if locks else None


def keep_up(table: DeltaTable, path: str, lock_file: Path, settings: LoggerSettings) -> None:
    """Merge small files, delete those merged long ago, write a checkpoint, trim the log. Nothing is done while another process does it.

    delta-rs lets two compactions of the same files both pass [run], whatever retries and `txn` its commit is given: each adds a file of
    the merged rows, so all of these are doubled. Hence one at a time, of what is there when its turn has come. A process that is
    stopped in between keeps the lock.
    """
    with lock_file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        table.update_incremental()
        table.optimize.compact(post_commithook_properties=NO_HOOKS)
        _delete_merged(table, path, settings)
        table.create_checkpoint()  # after the vacuum: it forgets what the next one would have found
        table.cleanup_metadata()


def _delete_merged(table: DeltaTable, path: str, settings: LoggerSettings) -> None:
    """Delete files that were merged long enough ago, when it is time for that, or when checkpoints are to forget them earlier or later."""
    wanted = retention_properties(settings)[MEMORY_OF_REMOVED]
    has_changed = table.metadata().configuration.get(MEMORY_OF_REMOVED) != wanted
    if has_changed:
        table.alter.set_table_properties({MEMORY_OF_REMOVED: wanted}, post_commithook_properties=NO_HOOKS)
    if has_changed or is_vacuum_due(checkpointed_at(path), time.time(), settings):
        # Never `full`: that deletes files that another writer has not committed yet (delta-rs 3645).
        hours = int(settings.merged_files_h)
        table.vacuum(hours, dry_run=False, enforce_retention_duration=False, post_commithook_properties=NO_HOOKS)
