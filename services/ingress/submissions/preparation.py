"""`python -m services.ingress.submissions.preparation <folder>`: makes the rows of a batch of what was submitted, apart from its parent.

order_rows(folder, Source("NDJSON"))     # by whoever submits; the file is `<folder>/upload`
kept = await prepare(folder)             # by whoever runs the batch; leaves `<folder>/rows.parquet`
"""

import asyncio
import json
import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from deltalake.exceptions import DeltaError

from services.ingress.apart import NICENESS, alone, run_apart
from services.ingress.lasting_files import write_lasting
from services.ingress.statement_folder import leave
from services.ingress.submissions.blocks import of_batches
from services.ingress.submissions.inputs import read_input
from services.ingress.submissions.row_file import FILE, Kept, write_rows
from services.shared.errors import ParameterInvalid
from services.shared.queries import QueryRefused, query_reader
from services.shared.settings import GIB
from services.shared.table_places import in_one_line, open_table

UPLOAD, ROWS = "upload", FILE
_SOURCE, _KEPT, _REFUSAL = "source.json", "kept.json", "refusal.json"
LIMIT_S = 3600.0
MEMORY_BYTES = 8 * GIB  # of addresses


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows come from: the upload in one of the forms, INLINE being a scoring body, or one SELECT (SQL)."""

    form: Literal["INLINE", "NDJSON", "CSV", "PARQUET", "SQL"]
    statement: str = ""
    tables: str = ""  # folder of the tables that it is about
    visible: tuple[str, ...] | None = ()  # those that are there for its owner; None: all
    output: str = ""  # where the table of the results is to lie: nothing may lie there yet


def select_all(table: str) -> str:
    """The statement that reads a table, catalog.schema.table."""
    return "SELECT * FROM " + ".".join(f'"{part}"' for part in table.split("."))


def order_rows(folder: Path, source: Source) -> None:
    leave(folder / _SOURCE, asdict(source))


async def prepare(folder: Path) -> Kept:
    """A repeat finds what is there. Cancelled, it leaves nothing. Raises ParameterInvalid: no batch can be made of it."""
    if not is_prepared(folder):
        try:
            async with asyncio.timeout(LIMIT_S):
                await run_apart("submissions.preparation", str(folder))
        except TimeoutError:
            leave(folder / _REFUSAL, {"message": f"Reading the input took longer than {LIMIT_S:g} seconds."})
    if refusal := _read(folder / _REFUSAL):
        raise ParameterInvalid(refusal["message"])
    if kept := _read(folder / _KEPT):
        return Kept(**kept)
    raise ParameterInvalid("The input could not be read: the process that did ended; it may have needed too much memory.")


def main(folder: Path) -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    source = Source(**json.loads((folder / _SOURCE).read_text()))
    with alone(folder):
        if is_prepared(folder):
            return
        try:
            require_free(source.output)
            kept = keep_rows(source, folder)
        except (ParameterInvalid, QueryRefused) as error:
            leave(folder / _REFUSAL, {"message": str(error)})
        except OSError as error:
            leave(folder / _REFUSAL, {"message": f"The rows of the input could not be written: {error.strerror}."})
        else:
            write_lasting(folder / _KEPT, json.dumps(asdict(kept)))


def is_prepared(folder: Path) -> bool:
    return any((folder / told).exists() for told in (_KEPT, _REFUSAL))


def require_free(table: str) -> None:
    """Raises ParameterInvalid."""
    try:
        is_free = not table or open_table(table) is None
    except (DeltaError, OSError) as error:
        raise ParameterInvalid(f"The table of the results cannot be looked for: {in_one_line(error)}") from error
    if not is_free:
        raise ParameterInvalid("The table of the results exists already.")


def keep_rows(source: Source, folder: Path) -> Kept:
    if source.form != "SQL":
        return write_rows(read_input(source.form, folder / UPLOAD), folder / ROWS)
    with query_reader(source.tables, source.statement, source.visible) as rows:
        return write_rows(of_batches(rows.schema, rows), folder / ROWS)


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
