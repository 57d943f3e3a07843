"""Inference tables in a bucket, at moto's S3 server: as exactly once as in a folder, with two writers at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

from services.ingress.submissions.preparation import require_free
from services.ingress.submissions.results_table import TableRefused, write_table
from services.logger.rows import ID
from services.logger.settings import LoggerSettings
from services.logger.table import Delivery, InferenceTable, TableBroken
from services.shared.envelope import new_request_id
from services.shared.errors import ParameterInvalid
from services.shared.queries import run_query
from services.shared.table_places import StorageLost, list_tables, table_at
from tests.s3_server import BUCKET, s3_server
from tests.unit.logger.outcomes import outcome

NAME = "main.churn.scores_payload"
APPENDS = 8
COMPACTS = LoggerSettings(compact_commits=5)


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The place of all tables."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}/tables"


def deliveries(partition: int, offset: int, *ids: str) -> list[Delivery]:
    return [Delivery(partition, offset + number, outcome(request_id)) for number, request_id in enumerate(ids)]


async def test_two_writers_in_a_bucket_write_each_request_once_and_merge_its_files(storage: str, tmp_path: Path) -> None:
    table, sent = table_at(storage, NAME), [[new_request_id() for _ in range(APPENDS)] for _ in range(2)]

    def write(partition: int) -> None:
        writer = InferenceTable(table, COMPACTS, locks=tmp_path)
        for offset, request_id in enumerate(sent[partition]):
            writer.append(deliveries(partition, offset, request_id))

    await asyncio.gather(*(asyncio.to_thread(write, partition) for partition in range(2)))
    again = InferenceTable(table, LoggerSettings(dedupe_window_s=1e-6)).append(deliveries(0, 0, *sent[0]))
    assert (again.rows, again.repeats) == (0, APPENDS)
    assert Counter(DeltaTable(table).to_pyarrow_table(columns=[ID])[ID].to_pylist()) == Counter([*sent[0], *sent[1]])
    assert len(pa.table(DeltaTable(table).get_add_actions())) < 2 * APPENDS
    assert list_tables(storage) == [NAME]
    assert run_query(storage, f"select count(*) as n from {NAME}").to_pylist() == [{"n": 2 * APPENDS}]


def test_a_stale_writer_is_fenced_and_a_table_that_is_gone_is_broken(storage: str) -> None:
    table, sent = table_at(storage, "main.churn.other_payload"), [new_request_id() for _ in range(2)]
    zombie = InferenceTable(table, LoggerSettings())
    zombie.append(deliveries(0, 0, sent[0]))
    InferenceTable(table, LoggerSettings()).append(deliveries(0, 1, sent[1]))
    assert zombie.append(deliveries(0, 1, sent[1])).rows == 0
    PyFileSystem(DeltaStorageHandler(storage)).delete_dir("main/churn/other_payload")
    with pytest.raises(TableBroken):
        zombie.append(deliveries(0, 2, new_request_id()))


def test_of_storage_that_does_not_answer_one_line_tells(storage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list_tables(f"{storage}-of-others") == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageLost, match=r"^s3://penstock/tables cannot be reached: [^\n\x1b]+$"):
        list_tables(storage)
    with pytest.raises(ParameterInvalid, match="cannot be looked for"):
        require_free(table_at(storage, NAME))
    with pytest.raises(TableRefused, match="cannot be opened"):
        write_table(tmp_path / "results.parquet", table_at(storage, NAME), "b-1")
    with pytest.raises(StorageLost):
        InferenceTable(table_at(storage, NAME), LoggerSettings())
