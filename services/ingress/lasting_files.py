"""Files that are there whole or not at all, and once they are there outlive a loss of power."""

import os
from pathlib import Path


def write_lasting(file: Path, text: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    put_lasting(draft, file)


def put_lasting(draft: Path, file: Path) -> None:
    """The draft, of the same folder, becomes the file. A name that outlives its content, as renaming alone may leave it, is no file."""
    _sync(draft)
    draft.replace(file)
    _sync(file.parent)


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
