"""`python -m services.ingress.statement_runner <folder>`: runs one statement, in a process that can be ended and cannot hurt its parent."""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from services.ingress.apart import NICENESS
from services.ingress.disk_room import room_in
from services.ingress.statement_folder import ORDER, chunk_name, leave_end, leave_failure
from services.ingress.statement_parameters import ParameterInput, values_of
from services.ingress.statement_results import chunks_of, columns_of, to_bytes
from services.shared.queries import Binding, MemoryExhausted, Part, QueryRefused, run_query
from services.shared.settings import GIB
from services.shared.table_places import SERVED_ENTITIES

MEMORY_BYTES = 8 * GIB  # of addresses; of memory DuckDB keeps to half of it


class ResultTooLarge(Exception):
    """Of one statement, or beside what is kept of others. `str()` is one line for whoever asked."""


def main(folder: Path) -> None:
    """Reads the order; leaves chunks and the manifest that tells of them, or a failure."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    order = json.loads((folder / ORDER).read_text())
    try:
        leave_end(folder, "SUCCEEDED", run(folder, order))
    except (MemoryExhausted, ResultTooLarge) as error:
        leave_failure(folder, "RESOURCE_EXHAUSTED", str(error))
    except QueryRefused as error:
        leave_failure(folder, "BAD_REQUEST", str(error))


def run(folder: Path, order: dict[str, Any]) -> dict[str, object]:
    """The manifest. Raises QueryRefused and ResultTooLarge."""
    values = values_of([ParameterInput.model_validate(parameter) for parameter in order["parameters"]])
    binding = Binding(values, order["catalog"], order["schema"])
    limit = order["row_limit"]
    one_more = None if limit is None else limit + 1  # tells that there are more
    parts = {} if order["visible"] is None else {SERVED_ENTITIES: Part("endpoint_id", order["endpoints"])}
    rows = run_query(order["tables"], order["statement"], order["visible"], binding, one_more, parts)
    kept = rows.slice(0, limit)
    require_fits(kept.nbytes, order)
    chunks = write_chunks(folder, kept, order)
    return manifest_of(kept, chunks, truncated=kept.num_rows < rows.num_rows)


def write_chunks(folder: Path, rows: pa.Table, order: dict[str, Any]) -> list[dict[str, int]]:
    """Raises ResultTooLarge also here: a text may be many times as large as what it stands for."""
    room = room_in(folder.parent, order["kept_limit"])
    chunks, offset, written = [], 0, 0
    for index, chunk in enumerate(chunks_of(rows)):
        content = to_bytes(chunk, order["format"])
        written += len(content)
        require_fits(written, order)
        if written > room:
            raise ResultTooLarge("The node has no room for the result: those of other statements are kept for an hour each.")
        (folder / chunk_name(index)).write_bytes(content)
        chunks.append({"chunk_index": index, "row_offset": offset, "row_count": chunk.num_rows, "byte_count": len(content)})
        offset += chunk.num_rows
    return chunks


def require_fits(size: int, order: dict[str, Any]) -> None:
    if size > order["byte_limit"]:
        raise ResultTooLarge(f"The result is larger than {order['byte_limit']} bytes. Ask for fewer rows or columns{order['hint']}.")


def manifest_of(rows: pa.Table, chunks: list[dict[str, int]], *, truncated: bool) -> dict[str, object]:
    columns = columns_of(rows.schema)
    return {
        "schema": {"column_count": len(columns), "columns": columns},
        "total_chunk_count": len(chunks),
        "chunks": chunks,
        "total_row_count": rows.num_rows,
        "total_byte_count": sum(chunk["byte_count"] for chunk in chunks),
        "truncated": truncated,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
