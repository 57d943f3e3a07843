"""The lookup table of served entities, on a real Delta table."""

import asyncio
from pathlib import Path
from typing import cast

from services.ingress.submissions.served_entities import ServedEntities
from services.shared.control_events import ConfigRequested
from services.shared.event_log import EventLog
from services.shared.queries import run_query
from services.shared.table_places import SERVED_ENTITIES, has_version, table_at
from tests.unit.ingress.folding_log import FoldingLog
from tests.unit.shared.control_log import config, created, fold, ready


async def rows(tables: Path, count: int) -> list[tuple[str, str, str]]:
    async with asyncio.timeout(10):
        while True:
            if has_version(table_at(tables, SERVED_ENTITIES), 0):
                found = run_query(tables, "select * from system.serving.served_entities order by change_time, entity_version").to_pylist()
                if len(found) >= count:
                    return [(row["served_entity_id"], row["endpoint_name"], row["entity_version"]) for row in found]
            await asyncio.sleep(0.05)


async def test_each_served_entity_has_one_row_whoever_leads(tmp_path: Path) -> None:
    log = FoldingLog(fold(created(config("1")), ready("a")))
    first = asyncio.create_task(ServedEntities(cast(EventLog, log), tmp_path).run())
    [row] = await rows(tmp_path, 1)
    [pool] = log.snapshot().pools.values()
    assert row == (pool.served_entity_id, "churn", "1")
    first.cancel()
    second = asyncio.create_task(ServedEntities(cast(EventLog, log), tmp_path).run())
    await log.publish(ConfigRequested(endpoint_id="e1", based_on=1, config=config("2"), at_ms=5))
    assert [version for _, _, version in await rows(tmp_path, 2)] == ["1", "2"]
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
