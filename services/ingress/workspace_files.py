"""The files each user keeps in the workspace, on this node: what `databricks bundle` needs for its state and sources."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import ENOTEMPTY
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.shared.errors import AlreadyExists, ParameterInvalid, PermissionDenied, RequestRejected
from services.shared.settings import MIB

HOMES, SHARED = "Users", "Shared"
PREFIX = "Workspace"  # the same place with and without it
MAX_FILE_BYTES = 10 * MIB  # Databricks' own limit of an export
MAX_PATH_BYTES = 2_000
MAX_NAME_BYTES = 255


class PathNotFound(RequestRejected):
    """Nothing is kept at that path."""

    code = "RESOURCE_DOES_NOT_EXIST"


class DirectoryNotEmpty(RequestRejected):
    """A folder with something in it is removed only recursively."""

    code = "DIRECTORY_NOT_EMPTY"


def to_parts(path: str) -> tuple[str, ...]:
    """The names in an absolute path, without `/Workspace` before them. Raises ParameterInvalid."""
    parts = [part for part in path.split("/") if part]
    try:
        too_long = len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts)
    except UnicodeEncodeError as error:
        raise ParameterInvalid("The path holds a lone surrogate.") from error
    if not path.startswith("/") or too_long or any(part in (".", "..") or "\0" in part for part in parts):
        raise ParameterInvalid(
            f"A path is absolute, without '.', '..' or NUL, and of at most {MAX_PATH_BYTES} bytes, {MAX_NAME_BYTES} a name."
        )
    return tuple(parts[1:] if parts[:1] == [PREFIX] else parts)


def require_access(parts: Sequence[str], principal: str, is_admin: bool) -> None:
    """Raises PermissionDenied, whether anything is there or not."""
    if not is_admin and tuple(parts[:2]) != (HOMES, principal) and tuple(parts[:1]) != (SHARED,):
        raise PermissionDenied(f"User '{principal}' may use '/{HOMES}/{principal}' and '/{SHARED}' only, not '/{'/'.join(parts)}'.")


class WorkspaceFiles:
    """A folder tree. What is written is there whole or not at all; of two writers at once the later one wins."""

    def __init__(self, root: Path) -> None:
        self._tree = root / "tree"
        self._incoming = root / "incoming"
        for folder in (self._tree / HOMES, self._tree / SHARED, self._incoming):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def status(self, parts: Sequence[str]) -> dict[str, Any]:
        """Raises PathNotFound, as all but `make_folders` do."""
        with _refusals(parts):
            return _status(self._place(parts), _shown(parts))

    def children(self, parts: Sequence[str]) -> list[dict[str, Any]]:
        """Of a folder, by name; a file is its own."""
        place = self._place(parts)
        with _refusals(parts):
            if not place.is_dir():
                return [_status(place, _shown(parts))]
            return [_status(child, _shown([*parts, child.name])) for child in sorted(place.iterdir())]

    def make_folders(self, parts: Sequence[str]) -> None:
        """With all above it; a repeat changes nothing. Raises AlreadyExists where a file is in the way."""
        try:
            self._place(parts).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise AlreadyExists(f"A file is in the way of '{_shown(parts)}'.") from error

    def remove(self, parts: Sequence[str], recursive: bool) -> None:
        """Raises DirectoryNotEmpty."""
        if len(parts) < 2:
            raise ParameterInvalid(f"'{_shown(parts)}' cannot be deleted.")
        place = self._place(parts)
        with _refusals(parts):
            if not place.is_dir():
                place.unlink()
            elif recursive:
                shutil.rmtree(place)
            else:
                place.rmdir()

    def read(self, parts: Sequence[str]) -> bytes:
        with _refusals(parts):
            return self._place(parts).read_bytes()

    def write(self, parts: Sequence[str], content: bytes, overwrite: bool) -> None:
        """Raises PathNotFound without the folder it goes to, AlreadyExists."""
        incoming = self._incoming / uuid4().hex
        incoming.write_bytes(content)
        try:
            with _refusals(parts):
                if overwrite:
                    os.replace(incoming, self._place(parts))
                else:
                    os.link(incoming, self._place(parts))
        finally:
            incoming.unlink(missing_ok=True)

    def _place(self, parts: Sequence[str]) -> Path:
        if tuple(parts[:1]) == (HOMES,) and len(parts) > 1:
            (self._tree / HOMES / parts[1]).mkdir(exist_ok=True)  # everybody has a home
        return self._tree.joinpath(*parts)


@contextmanager
def _refusals(parts: Sequence[str]) -> Iterator[None]:
    """What the file system refuses, as the API says it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PathNotFound(f"Path ({_shown(parts)}) doesn't exist.") from error
    except FileExistsError as error:
        raise AlreadyExists(f"Path ({_shown(parts)}) already exists.") from error
    except IsADirectoryError as error:
        raise ParameterInvalid(f"Path ({_shown(parts)}) is a folder.") from error
    except OSError as error:
        if error.errno != ENOTEMPTY:
            raise
        raise DirectoryNotEmpty(f"Folder ({_shown(parts)}) is not empty.") from error


def _status(place: Path, shown: str) -> dict[str, Any]:
    seen = place.stat()
    status: dict[str, Any] = {"path": shown, "object_id": seen.st_ino, "resource_id": str(seen.st_ino)}
    if place.is_dir():
        return status | {"object_type": "DIRECTORY"}
    changed_ms = seen.st_mtime_ns // 1_000_000
    return status | {"object_type": "FILE", "size": seen.st_size, "created_at": changed_ms, "modified_at": changed_ms}


def _shown(parts: Sequence[str]) -> str:
    return "/" + "/".join(parts)
