"""What lies in the folder of a statement: the order of who asked, then chunks, and at last how it ended."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

ORDER, END = "order.json", "end.json"

Format = Literal["JSON_ARRAY", "ARROW_STREAM", "CSV"]
EndState = Literal["SUCCEEDED", "FAILED", "CANCELED"]  # as Databricks names them


def chunk_name(index: int) -> str:
    return f"chunk-{index}"


def leave(file: Path, content: object) -> None:
    """Whole or not at all: whoever looks at the statement reads it at any time."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(file)


def leave_end(folder: Path, state: EndState, told: dict[str, Any] | None = None) -> None:
    """How the statement ended, with its manifest or what failed. The first to say so is right, whichever process it is."""
    draft = folder / f"end-{os.getpid()}.draft"
    draft.write_text(json.dumps({"state": state, "told": told}))
    with suppress(FileExistsError):
        (folder / END).hardlink_to(draft)
    draft.unlink()


def leave_failure(folder: Path, error_code: str, message: str) -> None:
    leave_end(folder, "FAILED", {"error_code": error_code, "message": message})


def read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return found


def is_canceled(folder: Path) -> bool:
    end = read(folder / END)
    return end is not None and end["state"] == "CANCELED"


def discard_chunks(folder: Path) -> None:
    """Of a statement that has not succeeded nobody can have them."""
    end = read(folder / END)
    if end is None or end["state"] != "SUCCEEDED":
        for chunk in folder.glob("chunk-*"):
            chunk.unlink(missing_ok=True)
