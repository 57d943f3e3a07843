"""What a served entity's deployment and its model said, from the log files that the node keeps of its pool."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from services.shared.endpoints import Config, Endpoint
from services.shared.errors import ParameterInvalid, RequestRejected

MAX_DIGITS = 9  # of a config version
NEWEST_BYTES = 1024 * 1024  # of each file
TOLD = ("model output", "model worker died under a request", "evaluation took too long, replacing the model worker")


class ServedEntityNotFound(RequestRejected):
    """The endpoint has no served entity of that name in that version of its config."""

    code = "RESOURCE_DOES_NOT_EXIST"

    def __init__(self, endpoint: str, served: str) -> None:
        super().__init__(f"Endpoint '{endpoint}' has no served entity '{served}' in that version of its config.")


def pool_of(endpoint: Endpoint, served: str, config_version: str | None, folder: Path) -> str:
    """The pool of a served entity: of the pending or failed config if that has one, else of the active, unless a version is asked for.

    Of a config that is gone the build logs in `folder` tell: the newest that this version could have used.
    Raises ServedEntityNotFound, or ParameterInvalid for a version that is no number.
    """
    configs: Iterable[Config] = [config for config in (endpoint.pending, endpoint.active) if config is not None]
    if config_version is not None:
        if not (config_version.isascii() and config_version.isdigit() and len(config_version) <= MAX_DIGITS):
            raise ParameterInvalid("'config_version' must be a number.")
        configs = [config for config in configs if str(config.version) == config_version.lstrip("0")]
    for config in configs:
        if served in config.entities:
            return config.entities[served].pool_id
    versions = _built_versions(folder, f"build-{endpoint.endpoint_id}-{served}-")
    if fitting := [version for version in versions if config_version is None or version <= int(config_version) <= endpoint.latest_version]:
        return f"{endpoint.endpoint_id}-{served}-{max(fitting)}"
    raise ServedEntityNotFound(endpoint.name, served)


def _built_versions(folder: Path, prefix: str) -> Iterator[int]:
    for file in folder.glob("build-*.log"):
        version = file.stem.removeprefix(prefix)
        if file.stem.startswith(prefix) and version.isdigit():
            yield int(version)


def build_log(folder: Path, pool_id: str) -> str:
    """Empty before the build begins."""
    return _newest(folder / f"build-{pool_id}.log")


def service_log(folder: Path, pool_id: str) -> str:
    """What the model printed in each of its replicas, and what befell its process; oldest first."""
    replicas = [file for file in folder.glob(f"scorer-{pool_id}-*.log") if file.stem.rpartition("-")[0] == f"scorer-{pool_id}"]
    lines = [line for file in replicas for line in _told(_newest(file).splitlines())]
    return "".join(f"{line}\n" for line in sorted(lines))


def _told(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # cut, or written before logging was set up
            continue
        if entry.get("message") in TOLD:
            yield f"{entry['time']} {entry.get('line') or entry['message']}"


def _newest(file: Path) -> str:
    """Whole lines, as far as the newest bytes hold them."""
    try:
        with file.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - NEWEST_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return text if size <= NEWEST_BYTES else text.partition("\n")[2]
