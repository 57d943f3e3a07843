"""A child of the supervisor and the spares it may take."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from services.cli.child import Child, ChildSpec
from services.cli.keeper_link import KeeperLink
from services.cli.spare_replica import SpareReplicas

PATIENCE_S = 20.0


class NoSpares:
    """Counts who asks."""

    asked = 0

    def take(self, environment: Mapping[str, str], output: int, descriptors: Mapping[str, int]) -> None:
        self.asked += 1


async def test_a_replica_that_dies_again_and_again_leaves_the_spares_to_others(tmp_path: Path) -> None:
    """It once emptied all of them within a second."""
    keeper, spares = KeeperLink(os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT), tmp_path / "processes"), NoSpares()
    await keeper.start()
    spec = ChildSpec("scorer-p", [sys.executable, "-c", "exit(9)"], {}, tmp_path / "log", 1.0, may_leave=True, must_start=False)
    child = Child(spec, keeper, lambda _: None, lambda _: None, cast(SpareReplicas, spares))
    child.start()
    async with asyncio.timeout(PATIENCE_S):
        while child.restarts < 3:
            await asyncio.sleep(0.02)
    await child.stop()
    await keeper.stop()
    assert spares.asked == 2, "its first start, and that after its first death"
