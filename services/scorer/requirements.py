"""What a model's environment is made of, read from the files MLflow saved with it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from services.scorer.build_log import DeploymentFailed

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """`requirements` are normalised lines; `content` is what else they stand for: included files, or the model they lie in."""

    python: str  # as the model asks for it, "3.11.4"
    requirements: tuple[str, ...]
    content: str = ""

    @property
    def python_minor(self) -> str:
        return ".".join(self.python.split(".")[:2])

    @property
    def digest(self) -> str:
        """Names the environment: the same for every model that asks for the same."""
        text = "\n".join([self.python_minor, *self.requirements, self.content])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_environment_spec(model: Path, default_python: str) -> EnvironmentSpec:
    """A model that names no Python gets `default_python`; one that does not ask for mlflow gets the one it was saved with.

    Raises DeploymentFailed for a file that does not hold what it should.
    """
    env_file, requirements_file = model / "python_env.yaml", model / "requirements.txt"
    wanted = _read_mapping(env_file) if env_file.is_file() else {}
    lines = _read_text(requirements_file).splitlines() if requirements_file.is_file() else []
    requirements = normalise_requirements(lines)
    if not any(package_name(line) in ("mlflow", "mlflow-skinny") for line in requirements):
        saved_with = _read_mapping(model / "MLmodel").get("mlflow_version")
        requirements |= {f"mlflow=={saved_with}" if saved_with else "mlflow"}
    included = [line.split(maxsplit=1)[1] for line in requirements if line.startswith(("-r ", "-c "))]
    content = [_read_text(model / name) for name in included if (model / name).is_file()]
    if any(line.startswith((".", "/", "code/")) for line in requirements):
        content.append(str(model))  # a package that lies in the model's own folder belongs to that model
    return EnvironmentSpec(str(wanted.get("python") or default_python), tuple(sorted(requirements)), "\n".join(content))


def normalise_requirements(lines: list[str]) -> set[str]:
    """Without comments, blank lines, and differences of spelling that mean nothing."""
    kept = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in lines)
    return {_normalised(line) for line in kept if line}


def package_name(requirement: str) -> str:
    """The normalised name (PEP 503), or "" for a line that starts with none."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _normalised(line: str) -> str:
    if line.startswith(("-", ".", "/", "code/")) or "://" in line or "/" in line:
        return re.sub(r"\s+", " ", line)
    name = _NAME.match(line)
    rest = line[name.end() :] if name else line
    requirement, marker, condition = rest.partition(";")
    return package_name(line) + re.sub(r"\s+", "", requirement) + (f"; {condition.strip()}" if marker else "")


def _read_mapping(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(_read_text(file))
    except yaml.YAMLError as error:
        raise DeploymentFailed(f"The model's {file.name} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise DeploymentFailed(f"The model's {file.name} does not name anything: it must be a mapping.")
    return found


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeploymentFailed(f"The model's {file.name} is not UTF-8: {error}.") from error
    except OSError as error:
        raise DeploymentFailed(f"The model's {file.name} cannot be read: {error.strerror}.") from error
