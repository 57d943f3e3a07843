"""One inference table: opens or makes it, appends each request exactly once, keeps it compact. Knows nothing of Kafka or Faust.

All calls block. They belong to one thread at a time and, because delta-rs has threads of its own, to a process that never forks.
"""

import logging
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from services.logger.recent_ids import RecentIds, Seen, least_id, parse_id
from services.logger.rows import CURRENT, ID, LEGACY, Layout, received_at
from services.logger.settings import LoggerSettings
from services.logger.upkeep import NO_HOOKS, is_due, keep_up, retention_properties, upkeep_lock
from services.shared.envelope import Outcome
from services.shared.table_places import LOG, Place, StorageLost, has_version, is_folder, open_table

PROPERTIES = {"delta.appendOnly": "true", "delta.enableChangeDataFeed": "true"}
COMMIT_RETRIES = 100  # delta-rs' 15 lose commits beside a compactor (traps G)
GONE = "the table is gone: put it back, or restart the logger, which makes an empty one"
REBASES = 20  # another writer that beats this one so often in a row holds the partition

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An outcome and where it was read: partition and offset of `penstock.outcomes`."""

    partition: int
    offset: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Appended:
    rows: int
    repeats: int  # the table had them: delivered again, or the same request logged twice


class TableBroken(Exception):
    """The table cannot take the rows: not a Delta table, another schema, or a path that cannot be written."""


class DiskFull(Exception):
    """No space left: nothing is wrong with the table, so the append waits for as long as it takes."""


class InferenceTable:
    """Exactly once, whatever the callers' record positions say.

    Each commit carries `outcomes-<partition>` → highest offset in Delta's own `txn` (rows and progress are one commit). delta-rs
    neither skips nor refuses a repeated number; it refuses only a commit made through a handle that is older than another
    commit under the same name (traps C7). So: read `txn` and write on one handle. A zombie's handle is stale, hence fenced.

    The ids in memory are complete for the `txn` numbers they were loaded with; when the table shows others, somebody else wrote
    for that partition meanwhile, and the ids are loaded again (R5).
    """

    def __init__(self, path: Place, settings: LoggerSettings, wanted: Layout | None = CURRENT, locks: Path | None = None) -> None:
        """Open the table, or make it with the layout `wanted`, if any; one that is there keeps its own. Raises as `append` does.

        `locks` is a folder that the loggers of a stack share; without one, a table in a bucket has no upkeep.
        """
        self.path = str(path)
        self._lock_file = upkeep_lock(self.path, locks)
        self._settings = settings
        self._known: dict[int, int | None] = {}
        self._recent: RecentIds | None = None
        with _understood():
            self._table = _open_or_make(self.path, wanted, settings)
            self._layout = layout_of(self._table)

    def append(self, deliveries: Sequence[Delivery]) -> Appended:
        """Append what the table has not got. A repeat appends nothing. Raises TableBroken, DiskFull or StorageLost: nothing was appended.

        `deliveries` of one partition come in the order of their offsets, and earlier ones were handed over before.
        """
        for _ in range(REBASES):
            with _understood():
                fresh = self._not_logged(deliveries)
                if not fresh:
                    return Appended(0, len(deliveries))
                before = self._table.version()
                if self._write(fresh):
                    if is_due(before, self._table.version(), self._settings.compact_commits):
                        self._keep_up()
                    return Appended(len(fresh), len(deliveries) - len(fresh))
        raise TableBroken(f"another writer went ahead {REBASES} times in a row")

    def _not_logged(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """What must still be appended, by `txn` first and by request id second."""
        logged = {partition: self._logged(partition) for partition in {d.partition for d in deliveries}}
        if self._recent is None or any(offset != self._known.get(partition) for partition, offset in logged.items()):
            self._recent = self._load_recent()
            self._known |= logged
        later = [d for d in deliveries if is_later(d.offset, logged[d.partition])]
        self._recent.forget_before(self._window_ms())
        unknown = [d.outcome for d in later if self._recent.look(d.outcome.request_id) is Seen.UNKNOWN]
        return first_of_each(later, self._recent, self._look_up(unknown))

    def _write(self, fresh: Sequence[Delivery]) -> bool:
        """Commit rows and offsets. False: the handle was stale, or the outcome is unknown; it was opened again, decide again."""
        last = last_offsets(fresh)
        properties = CommitProperties(
            max_commit_retries=COMMIT_RETRIES,
            app_transactions=[Transaction(_app_id(partition), offset) for partition, offset in last.items()],
        )
        rows = self._layout.to_rows([d.outcome for d in fresh])
        if not has_version(self.path, self._table.version()):
            raise TableBroken(GONE)  # a commit of an old handle would leave a log without a beginning
        try:
            write_deltalake(self._table, rows, mode="append", commit_properties=properties, post_commithook_properties=NO_HOOKS)
        except CommitFailedError:
            self._reopen()
            return False
        except BaseException as error:  # delta-rs' PanicException is no Exception (traps C8)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._reopen()
            landed = all(not is_later(offset, self._logged(partition)) for partition, offset in last.items())
            if not landed:
                raise
            log.warning("append reported an error after it had landed", extra={"table": self.path, "error": repr(error)})
        self._known |= last
        if self._recent is not None:
            self._recent.remember(d.outcome.request_id for d in fresh)
        return True

    def _keep_up(self) -> None:
        """Keep commits fast: a handle slows down with every commit it has seen (traps G). A failure costs speed, never rows."""
        try:
            if self._lock_file:
                keep_up(self._table, self.path, self._lock_file, self._settings)
        except BaseException as error:  # delta-rs' PanicException is no Exception (traps C8)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            log.warning("table was not compacted, it will be later", extra={"table": self.path, "error": repr(error)})
        self._table = _open(self.path)

    def _reopen(self) -> None:
        """Someone else has written: what is known of the table is read again."""
        self._table = _open(self.path)
        self._recent = None

    def _logged(self, partition: int) -> int | None:
        return self._table.transaction_version(_app_id(partition))

    def _load_recent(self) -> RecentIds:
        recent = RecentIds(self._window_ms(), self._settings.dedupe_max_ids)
        recent.remember(self._ids(pc.field(ID) >= least_id(recent.floor_ms)))  # files of older ids are skipped by their statistics
        return recent

    def _look_up(self, outcomes: Sequence[Outcome]) -> set[str]:
        """Which of these requests the table has. Days and the range of the ids let delta-rs and pyarrow skip most files.

        What came again under an id of its sender's may have come first on any day since the id was made; one without time, on any.
        """
        timed = [o for o in outcomes if parse_id(o.request_id)[0]]
        found = self._find([o.request_id for o in outcomes if not parse_id(o.request_id)[0]], None)
        if timed:
            since_ms = min(min(parse_id(o.request_id)[0], o.accepted_at_ms) for o in timed)
            day = pc.field(self._layout.day)
            days = day >= datetime.fromtimestamp(since_ms / 1000, UTC).date()
            found |= self._find([o.request_id for o in timed], days & (day <= max(received_at(o).date() for o in timed)))
        return found

    def _find(self, request_ids: Sequence[str], days: pc.Expression | None) -> set[str]:
        if not request_ids:
            return set()
        ids = sorted(set(request_ids))
        wanted = (pc.field(ID) >= ids[0]) & (pc.field(ID) <= ids[-1]) & pc.field(ID).isin(ids)
        return set(self._ids(wanted if days is None else days & wanted))

    def _ids(self, wanted: pc.Expression) -> list[str]:
        found: list[str] = self._table.to_pyarrow_dataset().to_table(columns=[ID], filter=wanted)[ID].to_pylist()
        return found

    def _window_ms(self) -> int:
        return int((time.time() - self._settings.dedupe_window_s) * 1000)


def is_later(offset: int, logged: int | None) -> bool:
    return logged is None or offset > logged


def last_offsets(deliveries: Sequence[Delivery]) -> dict[int, int]:
    """Partition → highest offset: what the commit that holds these rows says of itself."""
    last: dict[int, int] = {}
    for delivery in deliveries:
        last[delivery.partition] = max(delivery.offset, last.get(delivery.partition, -1))
    return last


def first_of_each(deliveries: Sequence[Delivery], recent: RecentIds, in_table: Set[str]) -> list[Delivery]:
    """The deliveries whose request has no row yet, the first of each request."""
    taken = set(in_table)
    first = []
    for delivery in deliveries:
        request_id = delivery.outcome.request_id
        if request_id not in taken and recent.look(request_id) is not Seen.REPEAT:
            taken.add(request_id)
            first.append(delivery)
    return first


def _open_or_make(path: str, wanted: Layout | None, settings: LoggerSettings) -> DeltaTable:
    if (found := open_table(path)) is not None:
        return found
    if wanted is None:
        raise TableBroken(GONE)
    if is_folder(path):
        Path(path).mkdir(parents=True, exist_ok=True)
        if any(entry.name != LOG for entry in Path(path).iterdir()):
            raise TableBroken("the folder holds something that is no Delta table")
    configuration = PROPERTIES | retention_properties(settings)
    try:
        DeltaTable.create(path, wanted.columns, mode="error", partition_by=[wanted.day], configuration=configuration)
    except DeltaError:
        if open_table(path) is None:
            raise
        # else: another logger made it first
    return DeltaTable(path)


def _open(path: str) -> DeltaTable:
    table = DeltaTable(path)
    layout_of(table)
    return table


def layout_of(table: DeltaTable) -> Layout:
    """Raises TableBroken where it has another than a logger made."""
    columns = pa.schema(table.schema().to_arrow())
    for layout in (CURRENT, LEGACY):
        if columns.equals(layout.columns):
            return layout
    raise TableBroken("the table's columns were altered")


def _app_id(partition: int) -> str:
    return f"outcomes-{partition}"


@contextmanager
def _understood() -> Iterator[None]:
    """Sort what delta-rs and the file system raise into what waits and what is given up."""
    try:
        yield
    except (TableBroken, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # delta-rs' PanicException is no Exception (traps C8)
        if is_disk_full(error):
            raise DiskFull(str(error)) from error
        if "Generic S3 error" in str(error):  # delta-rs' word for no connection, a time-out or a 5xx, after retries of its own
            raise StorageLost(str(error)) from error
        raise TableBroken(f"{type(error).__name__}: {error}") from error


def is_disk_full(error: BaseException) -> bool:
    """delta-rs hands the operating system's words on, not its number."""
    text = str(error)
    return "os error 28" in text or "os error 122" in text or (isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT))
