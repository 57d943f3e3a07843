"""`python -m services.ingress.submissions.conclusion <folder> <table>`: writes the results of a batch, apart from its parent.

concluded = await conclude(folder, table)   # of `rows.parquet` and `settled`: `results.parquet`, `results.ndjson` and the table
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from services.ingress.apart import NICENESS, alone, run_apart
from services.ingress.lasting_files import write_lasting
from services.ingress.submissions.batch_results import Written, write_results
from services.ingress.submissions.results_table import TableRefused, write_table
from services.ingress.submissions.row_file import FILE, RowFile
from services.ingress.submissions.settled import in_order

SETTLED, PARQUET, NDJSON = "settled", "results.parquet", "results.ndjson"
_CONCLUDED = "concluded.json"


class ConclusionFailed(Exception):
    """The results could not be written: no memory, no disk. Nothing is lost, and it can be tried again."""


@dataclass(frozen=True, slots=True)
class Concluded:
    rows: int
    failed: int  # those with an error instead of a prediction
    table_fault: str  # why the results are in no table, or ""


async def conclude(folder: Path, table: str = "") -> Concluded:
    """A repeat finds what is there. Cancelled, it leaves nothing. Raises ConclusionFailed."""
    told = folder / _CONCLUDED
    if not told.exists():
        await run_apart("submissions.conclusion", str(folder), table)
    if not told.exists():
        raise ConclusionFailed(f"the results of {folder.name} could not be written")
    return Concluded(**json.loads(told.read_text()))


def main(folder: Path, table: str) -> None:
    os.nice(NICENESS)
    with alone(folder):
        if (folder / _CONCLUDED).exists():
            return
        written = write_results(RowFile(folder / FILE), partial(in_order, folder / SETTLED), folder / PARQUET, folder / NDJSON)
        write_lasting(folder / _CONCLUDED, json.dumps(asdict(to_concluded(folder, table, written))))


def to_concluded(folder: Path, table: str, written: Written) -> Concluded:
    try:
        if table:
            write_table(folder / PARQUET, table, batch_id=folder.name)
    except TableRefused as error:
        return Concluded(written.rows, written.failed, str(error))
    return Concluded(written.rows, written.failed, "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
