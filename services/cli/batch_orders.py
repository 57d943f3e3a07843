"""What `penstock batch submit` sends: a file as it is, or an order in JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import typer

from services.cli.failures import StackFailure

JSON, NDJSON = "application/json", "application/x-ndjson"
MEDIA_TYPES = {
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".json": JSON,
}


@dataclass(frozen=True, slots=True)
class Order:
    content: bytes | IO[bytes]
    media_type: str
    parameters: dict[str, str]  # of the address


@contextmanager
def order_of(file: Path | None, table: str | None, sql: str | None, output_table: str | None) -> Iterator[Order]:
    """The file is open meanwhile, and read as it is sent. Raises typer.BadParameter, and StackFailure for a file that cannot be read."""
    given = [one for one in (file, table, sql) if one is not None]
    if len(given) != 1:
        raise typer.BadParameter("a batch needs its rows: a file, --table or --sql, one of them")
    parameters = {"output_table": output_table} if output_table else {}
    if file is None:
        source = {"table": table} if table else {"sql": sql}
        yield Order(json.dumps({"source": source}).encode(), JSON, parameters)
        return
    if str(file) == "-":
        yield Order(typer.get_binary_stream("stdin"), NDJSON, parameters)
        return
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise typer.BadParameter(f"'{file}' is none of {', '.join(MEDIA_TYPES)}")
    try:
        content = file.open("rb")
    except OSError as error:
        raise StackFailure(f"{file} cannot be read: {error.strerror}") from error
    with content:
        yield Order(content, media_type, parameters)
