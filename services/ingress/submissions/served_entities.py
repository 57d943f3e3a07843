"""The Delta table `system.serving.served_entities`: what the ids in the rows of inference tables stand for."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError

from services.shared.clock import now_ms
from services.shared.endpoints import Pool
from services.shared.event_log import EventLog
from services.shared.table_places import SERVED_ENTITIES, Place, is_folder, open_table, table_at

ID = "served_entity_id"
COLUMNS = pa.schema(
    [
        (ID, pa.string()),
        ("endpoint_id", pa.string()),
        ("endpoint_name", pa.string()),
        ("served_entity_name", pa.string()),
        ("entity_name", pa.string()),
        ("entity_version", pa.string()),
        ("created_by", pa.string()),
        ("change_time", pa.timestamp("us", "UTC")),
    ]
)
RETRY_S = 30.0

log = logging.getLogger(__name__)


class ServedEntities:
    """Appends a row for each served entity when it is first seen; rows stay when it is gone.

    One that came and went while no process led has none: it takes seconds to come, and longer to go.
    """

    def __init__(self, events: EventLog, tables: Place) -> None:
        self._events = events
        self._path = table_at(tables, SERVED_ENTITIES)

    async def run(self) -> None:
        """Runs until cancelled; a table that cannot be written is tried again."""
        told: set[str] | None = None
        while True:
            state = self._events.snapshot()
            try:
                told = told if told is not None else await asyncio.to_thread(told_in, self._path)
                if new := [pool for pool in state.pools.values() if pool.served_entity_id not in told]:
                    await asyncio.to_thread(append, self._path, new, now_ms())
                    told |= {pool.served_entity_id for pool in new}
            except (DeltaError, OSError) as error:
                log.warning("served entities cannot be told in their table, trying again", extra={"error": repr(error)})
                told = None
                await asyncio.sleep(RETRY_S)
                continue
            await self._events.changed(state.next_offset)


def told_in(path: str) -> set[str]:
    """Raises DeltaError or OSError."""
    table = open_table(path)
    return set() if table is None else set(table.to_pyarrow_table(columns=[ID])[ID].to_pylist())


def append(path: str, pools: Sequence[Pool], at_ms: int) -> None:
    """Raises DeltaError or OSError; then nothing was appended, or it shows in the table."""
    if is_folder(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_deltalake(path, to_rows(pools, at_ms), mode="append")


def to_rows(pools: Iterable[Pool], at_ms: int) -> pa.Table:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return pa.Table.from_pylist(
        [
            {
                ID: pool.served_entity_id,
                "endpoint_id": pool.endpoint_id,
                "endpoint_name": pool.endpoint_name,
                "served_entity_name": pool.spec.name,
                "entity_name": pool.spec.model_name,
                "entity_version": pool.spec.model_version,
                "created_by": pool.creator,
                "change_time": at,
            }
            for pool in pools
        ],
        schema=COLUMNS,
    )
