"""Fetches a model version from MLflow and looks whether all of it came: `python -m services.scorer.model_download URI FOLDER`.

In a process of its own: importing mlflow costs seconds of CPU and 130 MB, neither of which a host's loop can spare.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests.exceptions import RequestException


def main(uri: str, folder: Path) -> None:
    """Ends the process with what to tell the user when the model is not there, or not whole."""
    logging.disable(logging.WARNING)
    try:
        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
        lacking = list(unlike(listed(get_artifact_repository(uri)), folder))
    except RestException as error:
        sys.exit(error.message)
    except MlflowException as error:
        lost = isinstance(error.__context__, RequestException)
        sys.exit("MLflow cannot be reached." if lost else error.message)
    if lacking:
        sys.exit(f"These files did not come as MLflow lists them: {', '.join(lacking)}")


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
    main(sys.argv[1], Path(sys.argv[2]))
