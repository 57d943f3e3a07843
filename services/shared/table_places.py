"""Where the Delta tables lie: a folder of this node, or a bucket of S3-compatible storage.

What opens a table takes its path or URI; delta-rs reads the usual variables (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …) itself. It is
imported only where it is used: it takes 0.25 s, and the ingress needs names alone.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import PyFileSystem

Place = Path | str  # of all tables, or of one
LOG = "_delta_log"
SERVED_ENTITIES = "system.serving.served_entities"
_DRAWN = re.compile(r"\x1b\[\d+m|↳")


class StorageLost(Exception):
    """The storage of tables cannot be reached, or refuses: nothing is wrong with a table. `str()` is one line."""


def table_at(tables: Place, name: str) -> str:
    """The path or URI of a table by its three-level name."""
    return "/".join([str(tables).rstrip("/"), *name.split(".")])


def is_folder(place: Place) -> bool:
    return "://" not in str(place)


def open_table(table: Place) -> "DeltaTable | None":
    """None where there is none. Raises DeltaError or OSError for what cannot be opened, or for storage that cannot be reached.

    `DeltaTable.is_deltatable` is not asked: it holds the interpreter until storage has answered, for up to 180 s.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(str(table))
    except TableNotFoundError:
        return None


def has_version(table: str, version: int) -> bool:
    """Whether the table's log still holds that commit."""
    commit = f"{LOG}/{version:020}.json"
    if is_folder(table):
        return (Path(table) / commit).exists()
    return bool(_storage(table).get_file_info(commit).is_file)


def checkpointed_at(table: str) -> float | None:
    """When the table's newest checkpoint was written, in seconds since the epoch; None: it has none."""
    pointer = f"{LOG}/_last_checkpoint"
    if is_folder(table):
        written = Path(table) / pointer
        return written.stat().st_mtime if written.exists() else None
    found = _storage(table).get_file_info(pointer)
    return found.mtime.timestamp() if found.is_file else None


def list_tables(tables: Place) -> list[str]:
    """Three-level names of the tables there are. Raises StorageLost."""
    if is_folder(tables):
        folder = Path(tables)
        return sorted(".".join(log.parent.relative_to(folder).parts) for log in folder.glob(f"*/*/*/{LOG}"))
    found = [""]
    try:
        storage = _storage(str(tables))
        for _ in range(4):
            found = [path for parent in found for path in _folders_in(storage, parent)]
    except OSError as error:
        raise StorageLost(f"{tables} cannot be reached: {in_one_line(error)}") from error
    return sorted(path.removesuffix(f"/{LOG}").replace("/", ".") for path in found if path.endswith(f"/{LOG}"))


def in_one_line(error: BaseException) -> str:
    """What delta-rs says, which it draws as a tree in colours."""
    return " ".join(_DRAWN.sub(" ", str(error)).split())


def _storage(place: str) -> "PyFileSystem":
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    return PyFileSystem(DeltaStorageHandler(place))


def _folders_in(storage: "PyFileSystem", parent: str) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    entries = storage.get_file_info(FileSelector(parent, allow_not_found=True))
    return [entry.path for entry in entries if entry.type == FileType.Directory]
