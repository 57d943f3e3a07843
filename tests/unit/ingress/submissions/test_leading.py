"""Who hands out bulk work, and when."""

import asyncio

from services.ingress.submissions.app import run_while_leading
from services.shared.leadership import Leadership
from services.shared.settings import KafkaSettings


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_doors_are_open_while_the_process_leads_and_only_then() -> None:
    open_doors: list[str] = []

    async def door() -> None:
        open_doors.append("door")
        try:
            await asyncio.Event().wait()
        finally:
            open_doors.remove("door")

    leadership = Leadership(KafkaSettings(bootstrap="localhost:1"), "group")
    running = asyncio.create_task(run_while_leading(leadership, {"door": door}), name="doors")
    await settled()
    assert open_doors == []
    for _ in range(2):
        await leadership.on_partitions_assigned([object()])
        await settled()
        assert open_doors == ["door"]
        await leadership.on_partitions_revoked([object()])
        await settled()
        assert open_doors == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await leadership.stop()
