"""What lies in the folder of a batch: the order and the input of who asked, what the runner says of it, and its results."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from services.ingress.lasting_files import write_lasting
from services.ingress.statement_folder import leave

ORDER, UPLOAD, PROGRESS = "order.json", "upload", "progress.json"

SourceKind = Literal["INLINE", "NDJSON", "CSV", "PARQUET", "TABLE", "SQL"]


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """What somebody asked for. `asked` is the table or the SELECT; rows and files are the folder's `upload`, of `size` bytes."""

    endpoint: str
    kind: SourceKind
    asked: str
    size: int
    visible: tuple[str, ...] | None  # tables that are there for the owner; None: all
    table: str  # catalog.schema.table of the results, or "" for none
    params: dict[str, Any]  # that go with every row


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. `rows` is None until the input was read to its end."""

    rows: int | None = None
    succeeded: int = 0
    failed: int = 0
    estimated_end_ms: int | None = None


def leave_order(folder: Path, order: BatchOrder) -> None:
    write_lasting(folder / ORDER, json.dumps(asdict(order)))


def read_order(folder: Path) -> BatchOrder | None:
    """None where there is none, as of a batch whose files lie on another node."""
    found = _read(folder / ORDER)
    if found is None:
        return None
    visible = found["visible"]
    return BatchOrder(**_known(BatchOrder, found) | {"visible": None if visible is None else tuple(visible)})


def leave_progress(folder: Path, progress: Progress) -> None:
    leave(folder / PROGRESS, asdict(progress))


def read_progress(folder: Path) -> Progress | None:
    """None before the runner has begun."""
    found = _read(folder / PROGRESS)
    return None if found is None else Progress(**_known(Progress, found))


def _known(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    """A newer Penstock may have written more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return found
