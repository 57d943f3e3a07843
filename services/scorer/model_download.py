"""Fetches a model version, from this node where another pool has it, else from MLflow, and looks whether all of it came:
`python -m services.scorer.model_download URI FOLDER ORIGIN`.

In a process of its own: importing mlflow costs seconds of CPU and 130 MB, neither of which a host's loop can spare.
"""

import json
import logging
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests.exceptions import RequestException


def main(uri: str, folder: Path, origin_file: Path) -> None:
    """Leaves in `origin_file` which version it is, for pools that come later and find it beside theirs.

    Ends the process with what to tell the user when the model is not there, or not whole.
    """
    logging.disable(logging.WARNING)
    try:
        origin, files = origin_of(uri), list(listed(get_artifact_repository(uri)))
        if found := copied(origin_file, origin, files, folder):
            print(f"The files of this version are on this node already, of {found}.")
        else:
            mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
        lacking = list(unlike(files, folder))
    except RestException as error:
        sys.exit(error.message)
    except MlflowException as error:
        lost = isinstance(error.__context__, RequestException)
        sys.exit("MLflow cannot be reached." if lost else error.message)
    if lacking:
        sys.exit(f"These files did not come as MLflow lists them: {', '.join(lacking)}")
    origin_file.write_text(origin)


def origin_of(uri: str) -> str:
    """What no other version has: a model that is deleted and registered anew begins at version 1 again. Raises MlflowException."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    found = mlflow.MlflowClient().get_model_version(name, version)
    return json.dumps([mlflow.get_tracking_uri(), name, version, found.creation_timestamp, found.source])


def copied(origin_file: Path, origin: str, files: Iterable[FileInfo], folder: Path) -> str:
    """Copies another pool's files of that origin, if they are all there; whose they were, or "". A copy: models may write to theirs."""
    for other in sorted(origin_file.parent.glob(f"*{origin_file.suffix}")):
        pool_id = other.stem
        try:
            if other.read_text() != origin:
                continue
            shutil.copytree(other.with_name(pool_id), folder, dirs_exist_ok=True)
            if not list(unlike(files, folder)):
                return pool_id
        except OSError as error:  # that pool may be gone by now, and its files with it
            print(f"The files of {pool_id} on this node cannot be copied: {error}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    return ""


def listed(repository: Any, path: str | None = None) -> Iterator[FileInfo]:
    """The files under a path, with those of its folders."""
    for item in repository.list_artifacts(path):
        if item.is_dir:
            yield from listed(repository, item.path)
        else:
            yield item


def unlike(files: Iterable[FileInfo], folder: Path) -> Iterator[str]:
    """Those the folder has not, or in another size; a store that tells no sizes is taken at its word."""
    for file in files:
        here = folder / file.path
        if not here.is_file():
            yield f"{file.path} (missing)"
        elif file.file_size is not None and here.stat().st_size != file.file_size:
            yield f"{file.path} ({here.stat().st_size} of {file.file_size} bytes)"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
