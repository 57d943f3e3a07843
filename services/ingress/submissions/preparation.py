"""`python -m services.ingress.submissions.preparation <folder>`: makes the rows of a batch of what was submitted, apart from its parent.

order_rows(folder, Source("NDJSON"))     # by whoever submits; the file is `<folder>/upload`
kept = await prepare(folder)             # by whoever runs the batch; leaves `<folder>/rows.parquet`
"""

import json
import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from services.ingress.statement_folder import leave
from services.ingress.submissions.apart import NICENESS, run_apart
from services.ingress.submissions.inputs import read_input
from services.ingress.submissions.row_file import Kept, write_rows
from services.shared.errors import ParameterInvalid
from services.shared.settings import GIB

UPLOAD, ROWS = "upload", "rows.parquet"
_SOURCE, _KEPT, _REFUSAL = "source.json", "kept.json", "refusal.json"
MEMORY_BYTES = 8 * GIB  # of addresses


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows come from: the upload in one of the forms, INLINE being a scoring body, or one SELECT (SQL)."""

    form: Literal["INLINE", "NDJSON", "CSV", "PARQUET", "SQL"]
    statement: str = ""
    tables: str = ""  # folder of the tables that it is about
    visible: tuple[str, ...] | None = ()  # those that are there for its owner; None: all


def order_rows(folder: Path, source: Source) -> None:
    leave(folder / _SOURCE, asdict(source))


async def prepare(folder: Path) -> Kept:
    """A repeat finds what is there. Cancelled, it leaves nothing. Raises ParameterInvalid: no batch can be made of it."""
    if not any((folder / told).exists() for told in (_KEPT, _REFUSAL)):
        await run_apart("preparation", str(folder))
    if refusal := _read(folder / _REFUSAL):
        raise ParameterInvalid(refusal["message"])
    if kept := _read(folder / _KEPT):
        return Kept(**kept)
    raise ParameterInvalid("The input could not be read: the process that did ended; it may have needed too much memory.")


def main(folder: Path) -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    source = json.loads((folder / _SOURCE).read_text())
    try:
        kept = write_rows(read_input(source["form"], folder / UPLOAD), folder / ROWS)
    except ParameterInvalid as error:
        leave(folder / _REFUSAL, {"message": error.message})
    else:
        leave(folder / _KEPT, asdict(kept))


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
