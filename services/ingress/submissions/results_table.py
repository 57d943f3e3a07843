"""The results of a batch as a Delta table of their own."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from services.ingress.submissions.blocks import BLOCK_ROWS
from services.shared.table_places import in_one_line, is_folder, open_table

PROPERTIES = {"delta.enableChangeDataFeed": "true"}


class TableRefused(Exception):
    """The table cannot be made; `str()` is one line for the user."""


def write_table(results: Path, table: str, batch_id: str) -> None:
    """In one commit, which says whose it is: a repeat changes nothing. Raises TableRefused."""
    app = f"batch-{batch_id}"
    if (found := _opened(table)) is not None:
        if found.transaction_version(app) is None:
            raise TableRefused("A table of that name exists.")
        return
    parquet = pq.ParquetFile(results)
    schema = pa.schema([pa.field(field.name, table_type(field.type)) for field in parquet.schema_arrow])
    # A nanosecond is lost, for Delta knows none.
    rows = pa.RecordBatchReader.from_batches(schema, (batch.cast(schema, safe=False) for batch in parquet.iter_batches(BLOCK_ROWS)))
    if is_folder(table):
        Path(table).parent.mkdir(parents=True, exist_ok=True)
    commit = CommitProperties(app_transactions=[Transaction(app, 1)])
    try:
        write_deltalake(table, rows, mode="error", configuration=PROPERTIES, commit_properties=commit)
    except BaseException as error:  # delta-rs' PanicException is no Exception (traps C8)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise TableRefused(f"The table cannot be written: {in_one_line(error)}") from error


def _opened(table: str) -> DeltaTable | None:
    """Raises TableRefused."""
    try:
        return open_table(table)
    except (DeltaError, OSError) as error:
        raise TableRefused(f"The table cannot be opened: {in_one_line(error)}") from error


def table_type(kind: pa.DataType) -> pa.DataType:
    """The nearest type that Delta has."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if pa.types.is_time(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return table_type(kind.value_type)
    if pa.types.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}.get(kind.bit_width, pa.decimal128(20, 0))
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, table_type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(table_type(kind.value_type))
    return kind
