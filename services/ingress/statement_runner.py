"""`python -m services.ingress.statement_runner <folder>`: runs one statement, in a process that can be ended and cannot hurt its parent."""

import json
import os
import resource
import sys
from pathlib import Path

import pyarrow as pa

from services.ingress.apart import NICENESS
from services.ingress.statement_folder import FAILURE, MANIFEST, ORDER, Format, chunk_name, leave
from services.ingress.statement_parameters import ParameterInput, values_of
from services.ingress.statement_results import chunks_of, columns_of, to_bytes
from services.shared.queries import Binding, QueryRefused, run_query
from services.shared.settings import GIB

MEMORY_BYTES = 8 * GIB  # of addresses; of memory DuckDB keeps to half of it, for what it can spill or refuse


def main(folder: Path) -> None:
    """Reads the order; leaves a manifest with the chunks it tells of, or a failure."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    order = json.loads((folder / ORDER).read_text())
    try:
        values = values_of([ParameterInput.model_validate(parameter) for parameter in order["parameters"]])
        binding = Binding(values, order["catalog"], order["schema"])
        rows = run_query(order["tables"], order["statement"], order["visible"], binding)
    except QueryRefused as error:
        leave(folder / FAILURE, {"error_code": "BAD_REQUEST", "message": str(error)})
        return
    kept = rows.slice(0, order["row_limit"])
    if kept.nbytes > order["byte_limit"]:
        message = f"The result is larger than {order['byte_limit']} bytes. Ask for fewer rows or columns{order['hint']}."
        leave(folder / FAILURE, {"error_code": "RESOURCE_EXHAUSTED", "message": message})
        return
    chunks = write_chunks(folder, kept, order["format"])
    leave(folder / MANIFEST, manifest_of(kept, chunks, truncated=kept.num_rows < rows.num_rows))


def write_chunks(folder: Path, rows: pa.Table, form: Format) -> list[dict[str, int]]:
    chunks, offset = [], 0
    for index, chunk in enumerate(chunks_of(rows)):
        size = (folder / chunk_name(index)).write_bytes(to_bytes(chunk, form))
        chunks.append({"chunk_index": index, "row_offset": offset, "row_count": chunk.num_rows, "byte_count": size})
        offset += chunk.num_rows
    return chunks


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
