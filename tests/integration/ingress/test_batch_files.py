"""From what was submitted to rows, and from what was answered to results: each in a process of its own."""

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from services.ingress.submissions.conclusion import NDJSON, SETTLED, Concluded, conclude
from services.ingress.submissions.preparation import ROWS, UPLOAD, Source, order_rows, prepare, select_all
from services.ingress.submissions.row_file import Kept, RowFile
from services.ingress.submissions.settled import Settled, SettledLog
from services.shared.errors import ParameterInvalid


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for name in ("mine", "theirs"):
        folder = tmp_path / "tables" / "main" / "churn" / name
        folder.mkdir(parents=True)
        write_deltalake(folder, pa.table({"age": [41, 12], "plan": ["basic", None]}))
    return tmp_path / "tables"


async def test_a_batch_goes_from_a_query_to_a_table(tmp_path: Path, tables: Path) -> None:
    statement = "select age, sum(age) over () as total from main.churn.mine order by age"
    order_rows(tmp_path, Source("SQL", statement, str(tables), visible=("main.churn.mine",)))

    assert await prepare(tmp_path) == Kept(rows=2, faulty=0)
    body = RowFile(tmp_path / ROWS).part(0, 2).body()
    assert json.loads(body.content) == {"dataframe_split": {"columns": ["age", "total"], "data": [[12, 53], [41, 53]]}}

    with SettledLog(tmp_path / SETTLED) as log:
        log.append(Settled(0, 2, 200, b'{"predictions": [0.5, 1]}', "churn-3"))
    results = tables / "main" / "churn" / "scores"
    both = await asyncio.gather(conclude(tmp_path, str(results)), conclude(tmp_path, str(results)))

    assert set(both) == {Concluded(rows=2, failed=0, table_fault="")}, "a process that outlived its parent does no harm"
    assert DeltaTable(results).version() == 0
    assert [json.loads(line)["prediction"] for line in (tmp_path / NDJSON).read_text().splitlines()] == [0.5, 1.0]


async def test_a_table_is_a_query_of_all_of_it(tmp_path: Path, tables: Path) -> None:
    order_rows(tmp_path, Source("SQL", select_all("main.churn.mine"), str(tables), visible=None))

    assert await prepare(tmp_path) == Kept(rows=2, faulty=0)


async def test_a_table_that_is_there_is_told_before_anything_is_scored(tmp_path: Path, tables: Path) -> None:
    order_rows(tmp_path, Source("SQL", select_all("main.churn.mine"), str(tables), None, str(tables / "main" / "churn" / "theirs")))

    with pytest.raises(ParameterInvalid, match="exists already"):
        await prepare(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(Source("SQL", "select * from main.churn.theirs", visible=("main.churn.mine",)), "no table main", id="hidden"),
        pytest.param(Source("SQL", "select 1 / 'a'", visible=()), "Could not convert string", id="a query that fails"),
        pytest.param(Source("SQL", "select * from read_csv('/etc/passwd')", visible=None), "disabled", id="a file"),
        pytest.param(Source("NDJSON"), "The input holds no rows.", id="an empty file"),
    ],
)
async def test_what_makes_no_batch_is_told_again_and_again(source: Source, message: str, tmp_path: Path, tables: Path) -> None:
    (tmp_path / UPLOAD).touch()
    order_rows(tmp_path, Source(source.form, source.statement, str(tables), source.visible))

    for _ in range(2):
        with pytest.raises(ParameterInvalid, match=message):
            await prepare(tmp_path)
