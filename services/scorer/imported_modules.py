"""Which modules the models of an environment were seen to need; a warm parent of it imports them before they ask."""

from collections.abc import Iterable
from pathlib import Path

MOST_NAMES = 10_000  # a worker that runs its model's code may say anything


def imports_file(environment: Path) -> Path:
    return environment / "imports.txt"


def add_imports(environment: Path, names: Iterable[str]) -> None:
    """Add those that are new, after what is there. Of two at the same moment one is lost until its next worker tells them again."""
    file = imports_file(environment)
    known = dict.fromkeys(file.read_text().split() if file.exists() else [])
    new = [name for name in dict.fromkeys(names) if name not in known and _is_module_name(name)]
    added = new[: max(0, MOST_NAMES - len(known))]
    if added:  # a file that changes has its parent begin anew
        whole = file.with_suffix(".new")
        whole.write_text("\n".join([*known, *added]) + "\n")
        whole.replace(file)


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
