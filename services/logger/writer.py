"""Brings a flush of outcome records into their tables, whatever becomes of one table. Knows nothing of Faust."""

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import metrics, trace

from services.logger.breaker import Breaker
from services.logger.dead_letters import DeadLetters
from services.logger.rows import CURRENT, LEGACY, is_row
from services.logger.settings import LoggerSettings
from services.logger.table import Appended, Delivery, DiskFull, InferenceTable, TableBroken
from services.logger.table_faults import TableFaults
from services.shared.envelope import Headers, Outcome, pack_outcomes, unpack_outcomes
from services.shared.errors import EnvelopeInvalid
from services.shared.table_places import Place, StorageLost, table_at
from services.shared.telemetry import LOGGED_REPEATS, LOGGED_ROWS, context_of

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0
HOLD_S = 60.0
UNREADABLE = "Half of the last outcome records cannot be read: is a service of another version, or a stranger, writing them?"
IDLE_S = 900.0  # a table nobody wrote to for so long is closed, so that memory follows what is used
_TABLE_NAME = re.compile(r"[^./\\\x00-\x1f]+\.[^./\\\x00-\x1f]+\.[^./\\\x00-\x1f]+")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of `penstock.outcomes`."""

    partition: int
    offset: int
    value: bytes
    headers: Headers


@dataclass(slots=True)
class OpenTable:
    table: InferenceTable
    used_at: float


class Writer:
    """One flush at a time. `write` returns when every outcome lies in its table or, where that cannot be, in the dead letters."""

    def __init__(
        self, tables: Place, settings: LoggerSettings, dead_letters: DeadLetters, faults: TableFaults, locks: Path | None = None
    ) -> None:
        """`locks` as in InferenceTable."""
        self._place = tables
        self._locks = locks
        self._settings = settings
        self._dead_letters = dead_letters
        self._faults = faults
        self._breaker = Breaker()
        self._tables: dict[str, OpenTable] = {}
        self._written: set[str] = set()  # tables that are never made anew: whoever removed one is to hear of it
        self.trouble = ""  # why nothing is logged at the moment
        self._retry_at: dict[str, float] = {}  # failed tables → monotonic second of the next try
        meter = metrics.get_meter("penstock")
        self._rows = meter.create_counter(LOGGED_ROWS, "{row}", "rows appended to inference tables")
        self._repeats = meter.create_counter(LOGGED_REPEATS, "{row}", "outcomes dropped because the table has them")

    async def write(self, records: Sequence[Record]) -> None:
        deliveries: dict[str, list[Delivery]] = defaultdict(list)
        for record in records:
            try:
                outcomes = parse_outcomes(record.value)
                self._breaker.saw(is_good=True)
            except EnvelopeInvalid as error:
                log.error("record holds no outcomes", extra={"partition": record.partition, "offset": record.offset, "error": str(error)})
                self._breaker.saw(is_good=False)
                await self._hold_if_open()
                await self._dead_letters.put(record.value, record.headers, (record.partition, record.offset), str(error))
                continue
            for outcome in outcomes:
                if outcome.table:
                    deliveries[outcome.table].append(Delivery(record.partition, record.offset, outcome))
        for name, of_table in deliveries.items():
            await self._append_or_quarantine(name, of_table)
        self._close_idle()

    async def _hold_if_open(self) -> None:
        """Never returns once the breaker is open: nothing is acknowledged, so a logger that can read them finds all of them."""
        while self._breaker.is_open:
            self.trouble = UNREADABLE
            log.error("half of the outcome records cannot be read, nothing is logged any more")
            await asyncio.sleep(HOLD_S)

    async def _append_or_quarantine(self, name: str, deliveries: Sequence[Delivery]) -> None:
        started_ns = time.time_ns()
        try:
            appended = await self._append(name, deliveries)
        except TableBroken as error:
            await self._quarantine(name, deliveries, str(error))
            return
        self._rows.add(appended.rows, {"table": name})
        self._repeats.add(appended.repeats, {"table": name})
        tracer = trace.get_tracer("penstock")
        for outcome in (d.outcome for d in deliveries):
            if outcome.traceparent:
                tracer.start_span("log row", context_of(outcome.traceparent), attributes={"table": name}, start_time=started_ns).end()

    async def _append(self, name: str, deliveries: Sequence[Delivery]) -> Appended:
        """Append with retries: a full disk is waited for, a broken table gets a few tries. Raises TableBroken."""
        failed = name in self._retry_at
        if failed and time.monotonic() < self._retry_at[name]:
            raise TableBroken("the table failed before and is not tried again yet")
        tries_left = 1 if failed else self._settings.table_attempts
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                appended = await asyncio.to_thread(self._append_once, name, deliveries)
            except DiskFull as error:
                self.trouble = "No space is left for inference tables."
                log.error("no space left for inference tables, waiting", extra={"table": name, "error": str(error)})
            except StorageLost as error:
                self.trouble = "The storage of inference tables cannot be reached."
                log.error("storage of inference tables cannot be reached, waiting", extra={"table": name, "error": str(error)})
            except TableBroken as error:
                tries_left -= 1
                if tries_left == 0:
                    self._retry_at[name] = time.monotonic() + self._settings.table_retry_s
                    log.error("table failed, its rows are quarantined", extra={"table": name, "error": str(error)})
                    await self._faults.failed(name, str(error))
                    raise
                log.warning("append failed, trying again", extra={"table": name, "error": str(error)})
            else:
                if self._retry_at.pop(name, None) is not None:
                    log.info("failed table works again", extra={"table": name})
                self.trouble = ""
                await self._faults.works(name)
                return appended
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    def _append_once(self, name: str, deliveries: Sequence[Delivery]) -> Appended:
        """In a thread. After an error the table is opened anew: only the disk knows what became of the append."""
        opened = self._tables.pop(name, None)
        layout = LEGACY if deliveries[0].outcome.legacy else CURRENT
        wanted = None if name in self._written else layout
        table = opened.table if opened else InferenceTable(table_at(self._place, name), self._settings, wanted, self._locks)
        appended = table.append(deliveries)
        self._tables[name] = OpenTable(table, time.monotonic())
        self._written.add(name)
        return appended

    async def _quarantine(self, name: str, deliveries: Sequence[Delivery], error: str) -> None:
        by_source: dict[tuple[int, int], list[Outcome]] = defaultdict(list)
        for delivery in deliveries:
            by_source[delivery.partition, delivery.offset].append(delivery.outcome)
        headers = [("penstock-table", name.encode())]
        for source, outcomes in by_source.items():
            for pack in pack_outcomes(outcomes):
                await self._dead_letters.put(pack, headers, source, error)
        log.error("rows were quarantined", extra={"table": name, "rows": len(deliveries), "error": error})

    def _close_idle(self) -> None:
        self._tables = still_used(self._tables, time.monotonic())


def still_used(tables: Mapping[str, OpenTable], now: float) -> dict[str, OpenTable]:
    return {name: opened for name, opened in tables.items() if now - opened.used_at < IDLE_S}


def parse_outcomes(value: bytes) -> list[Outcome]:
    """Unpack a record and make sure that each outcome can be a row. Raises EnvelopeInvalid."""
    outcomes = unpack_outcomes(value)
    for outcome in outcomes:
        if not is_row(outcome):
            raise EnvelopeInvalid("an outcome whose values do not fit a row")
        if not outcome.request_id:
            raise EnvelopeInvalid("an outcome without request id")
        if outcome.table and not _TABLE_NAME.fullmatch(outcome.table):
            raise EnvelopeInvalid("a table name that is not catalog.schema.table")
    return outcomes
