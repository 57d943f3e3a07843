"""How much of the node's disk what is kept there may take."""

import os
import shutil
from pathlib import Path

from services.shared.settings import MIB

LEFT_FREE_BYTES = 256 * MIB  # of the disk, for all else that lives on it


def used_bytes(folder: Path) -> int:
    return sum(_size(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def room_in(folder: Path, limit_bytes: int) -> int:
    """Bytes that may still come: the folder may hold so many, and the disk is never filled. Not above zero: none."""
    return min(limit_bytes - used_bytes(folder), free_bytes(folder))


def free_bytes(folder: Path) -> int:
    """Of its disk, beside what is left to others."""
    return shutil.disk_usage(folder).free - LEFT_FREE_BYTES


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # another process tidies, too
        return 0
