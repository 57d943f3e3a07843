"""The writer on real Delta tables: one broken table stops no other."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from services.logger.breaker import LEAST
from services.logger.dead_letters import DeadLetters
from services.logger.settings import LoggerSettings
from services.logger.table_faults import TableFaults
from services.logger.writer import Record, Writer
from services.shared.envelope import Headers, new_request_id, pack_outcomes, unpack_outcomes
from services.shared.presence import read_table_faults
from services.shared.redis_clients import new_redis
from services.shared.settings import KafkaSettings, RedisSettings
from services.shared.topics import TABLE_FAULTS_KEY
from tests.integration.logger.conftest import SmallDisk
from tests.unit.logger.outcomes import outcome

GOOD, BROKEN = "main.churn.good_payload", "main.churn.broken_payload"
HASTY = LoggerSettings(table_attempts=2, table_retry_s=1e-9)


class KeptLetters(DeadLetters):
    """Keeps in memory what would go to Kafka."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings())
        self.letters: list[tuple[bytes, str]] = []

    async def put(self, value: bytes, headers: Headers, source: tuple[int, int], error: str) -> None:
        self.letters.append((value, error))


@pytest.fixture
async def faults(redis_settings: RedisSettings) -> AsyncIterator[TableFaults]:
    redis = new_redis(redis_settings)
    await redis.delete(TABLE_FAULTS_KEY)
    faults = TableFaults(redis)
    yield faults
    await faults.stop()


def record(offset: int, *tables: str) -> Record:
    return Record(0, offset, next(pack_outcomes([outcome(new_request_id(), table) for table in tables])), [])


def count(tables: Path, name: str) -> int:
    return len(DeltaTable(tables.joinpath(*name.split("."))).to_pyarrow_table(columns=["requester"]))


async def test_the_rows_of_a_broken_table_are_quarantined_and_the_others_logged(tmp_path: Path, faults: TableFaults) -> None:
    letters = KeptLetters()
    (tmp_path / "main" / "churn").mkdir(parents=True)
    (tmp_path / "main" / "churn" / "broken_payload").touch()
    await Writer(tmp_path, HASTY, letters, faults).write([record(0, GOOD, BROKEN, GOOD), record(1, BROKEN), record(2, "")])
    assert count(tmp_path, GOOD) == 2
    assert [[o.table for o in unpack_outcomes(value)] for value, _ in letters.letters] == [[BROKEN], [BROKEN]]


async def test_a_failed_table_that_was_mended_is_used_again(tmp_path: Path, faults: TableFaults) -> None:
    letters = KeptLetters()
    writer = Writer(tmp_path, HASTY, letters, faults)
    fault = tmp_path / "main" / "churn" / "good_payload"
    fault.parent.mkdir(parents=True)
    fault.touch()
    await writer.write([record(0, GOOD)])
    fault.unlink()
    await writer.write([record(1, GOOD)])
    assert len(letters.letters) == 1
    assert count(tmp_path, GOOD) == 1


async def test_a_failed_table_is_told_until_any_logger_has_written_to_it(
    tmp_path: Path, faults: TableFaults, redis_settings: RedisSettings
) -> None:
    redis = new_redis(redis_settings)
    other = TableFaults(redis)
    await faults.works(GOOD)
    await redis.client_kill_filter(_type="normal", skipme=True)  # as after a restart of Redis: the connections that were are dead
    fault = tmp_path / "main" / "churn" / "good_payload"
    fault.parent.mkdir(parents=True)
    fault.touch()
    await Writer(tmp_path, HASTY, KeptLetters(), faults).write([record(0, GOOD)])
    assert list(await read_table_faults(redis)) == [GOOD]
    fault.unlink()
    await Writer(tmp_path, HASTY, KeptLetters(), other).write([record(1, GOOD)])
    assert await read_table_faults(redis) == {}
    await redis.aclose()


@pytest.mark.parametrize("removed", [pytest.param(True, id="removed"), pytest.param(False, id="renamed")])
async def test_a_table_that_was_taken_away_has_failed_until_it_is_put_back(
    tmp_path: Path, faults: TableFaults, redis_settings: RedisSettings, removed: bool
) -> None:
    """It was made anew, empty, and nobody heard that the rows were gone."""
    redis = new_redis(redis_settings)
    letters, place = KeptLetters(), tmp_path / "main" / "churn" / "good_payload"
    writer = Writer(tmp_path, HASTY, letters, faults)
    await writer.write([record(0, GOOD)])
    kept = shutil.copytree(place, tmp_path / "kept") if removed else place.with_name("old_payload")
    shutil.rmtree(place) if removed else place.rename(kept)
    await writer.write([record(1, GOOD)])
    await writer.write([record(2, GOOD)])
    assert not place.exists()
    assert "the table is gone" in (await read_table_faults(redis))[GOOD]
    assert len(letters.letters) == 2
    kept.rename(place)
    await writer.write([record(3, GOOD)])
    assert await read_table_faults(redis) == {}
    assert count(tmp_path, GOOD) == 2
    await redis.aclose()


async def test_a_full_disk_is_waited_for_and_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: TableFaults) -> None:
    letters, full = KeptLetters(), iter([True, True, True, False])

    def fails_while_full(*arguments: object, **options: object) -> None:
        if next(full):
            raise OSError("Generic LocalFileSystem error: No space left on device (os error 28)")
        write_deltalake(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("services.logger.table.write_deltalake", fails_while_full)
    await Writer(tmp_path, HASTY, letters, faults).write([record(0, GOOD)])
    assert letters.letters == []
    assert count(tmp_path, GOOD) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"\x00garbage", "not a pack", id="bytes nobody packed"),
        pytest.param(
            next(pack_outcomes([outcome(new_request_id(), "main.churn/../../etc.x_payload")])),
            "a table name that is not catalog.schema.table",
            id="a name that leaves the folder",
        ),
        pytest.param(next(pack_outcomes([outcome("", GOOD)])), "an outcome without request id", id="an outcome without id"),
    ],
)
async def test_what_is_no_outcome_goes_to_the_dead_letters_as_it_came(
    tmp_path: Path, value: bytes, reason: str, faults: TableFaults
) -> None:
    letters = KeptLetters()
    await Writer(tmp_path, HASTY, letters, faults).write([Record(0, 0, value, [])])
    [(kept, error)] = letters.letters
    assert kept == value
    assert reason in error
    assert os.listdir(tmp_path) == []


async def test_when_half_of_the_records_are_garbage_nothing_is_put_aside_any_more(tmp_path: Path, faults: TableFaults) -> None:
    letters = KeptLetters()
    writer = Writer(tmp_path, HASTY, letters, faults)
    mixed = [record(n, GOOD) if n % 2 else Record(0, n, b"garbage", []) for n in range(2 * LEAST)]
    writing = asyncio.create_task(writer.write(mixed))
    async with asyncio.timeout(10):
        while not writer.trouble:
            await asyncio.sleep(0.01)
    assert not writing.done(), "so nothing is acknowledged"
    assert len(letters.letters) < LEAST / 2 + 1
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_disk_that_is_really_full_is_waited_for_until_there_is_space(small_disk: SmallDisk, faults: TableFaults) -> None:
    letters = KeptLetters()
    writer = Writer(small_disk.folder, HASTY, letters, faults)
    await writer.write([record(0, GOOD)])
    small_disk.fill()
    writing = asyncio.create_task(writer.write([record(1, GOOD, GOOD)]))
    async with asyncio.timeout(20):
        while not writer.trouble:
            await asyncio.sleep(0.01)
    assert not writing.done()
    small_disk.free()
    async with asyncio.timeout(20):
        await writing
    assert (count(small_disk.folder, GOOD), letters.letters, writer.trouble) == (3, [], "")
