"""What lies in the folder of a statement: the order of who asked, then chunks and their manifest, or a failure."""

import json
from pathlib import Path
from typing import Literal

ORDER, MANIFEST, FAILURE = "order.json", "manifest.json", "failure.json"

Format = Literal["JSON_ARRAY", "ARROW_STREAM", "CSV"]


def chunk_name(index: int) -> str:
    return f"chunk-{index}"


def leave(file: Path, content: object) -> None:
    """Whole or not at all: whoever looks at the statement reads it at any time."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(file)
