"""The rows of files that hold one a line: NDJSON and CSV. A line that holds none has a fault instead."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from services.shared.settings import MIB

MAX_ROW_BYTES = 16 * MIB  # no model takes more


class Line(NamedTuple):
    """One row as JSON has it, or the fault of a line that holds none; where it stands, and how long it is in the file."""

    where: str
    value: Any
    fault: str | None = None
    size: int = 0


def ndjson_lines(file: Path) -> Iterator[Line]:
    """Blank lines are none."""
    with file.open("rb") as content:
        for number, raw in enumerate(_bounded_lines(content), start=1):
            where = f"Line {number}"
            if raw is None:
                yield Line(where, None, f"{where} is longer than {MAX_ROW_BYTES} bytes.")
            elif not raw.isspace():
                yield _parsed(where, raw)


def csv_lines(file: Path) -> Iterator[Line]:
    """The header is the first."""
    csv.field_size_limit(MAX_ROW_BYTES)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(f"Line {reader.line_num}", None, f"Line {reader.line_num} cannot be parsed as CSV: {error}.")
                continue
            if fields:
                yield _csv_line(f"Line {reader.line_num}", fields)


def _csv_line(where: str, fields: list[str]) -> Line:
    row = "".join(fields)
    try:
        row.encode()
    except UnicodeEncodeError:
        return Line(where, None, f"{where} is not UTF-8.")
    return Line(where, fields, size=len(row))


def _bounded_lines(content: IO[bytes]) -> Iterator[bytes | None]:
    """None for a line that is too long."""
    while raw := content.readline(MAX_ROW_BYTES + 1):
        if len(raw) <= MAX_ROW_BYTES:
            yield raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = content.readline(MAX_ROW_BYTES)
        yield None


def _parsed(where: str, raw: bytes) -> Line:
    try:
        return Line(where, json.loads(raw.decode("utf-8-sig")), size=len(raw))
    except UnicodeDecodeError:
        return Line(where, None, f"{where} is not UTF-8.")
    except (ValueError, RecursionError) as error:
        return Line(where, None, f"{where} cannot be parsed as JSON: {error}.")
