"""What was proven of a model, kept beside its folder for the next load: a proof takes some twenty evaluations.

Neither the model's files nor its environment ever change; what else the verdict hangs on is in `by`.
"""

import hashlib
import json
import os
import sys

SOURCES = ("proof.py", "rows.py", "shortcut.py", "mlflow_scoring.py")
FIELDS = ("row_wise", "waits", "has_said_whole", "first_s", "more_s")


def read_proven(folder, switch):
    """(fields, kinds, why) of the shortcut that was proven last time, or None."""
    try:
        with open(_file(folder), encoding="utf-8") as file:
            kept = json.load(file)
    except (OSError, ValueError):  # none is there, or it was cut short: it is proven again
        return None
    if kept["by"] != _by(switch):
        return None
    return {name: kept[name] for name in FIELDS}, {_tuples(kind) for kind in kept["kinds"]}, kept["why"]


def keep_proven(folder, switch, shortcut, why) -> None:
    """A verdict that cannot be written down, or not as it is, is none the worse: it is proven again."""
    kept = {"by": _by(switch), "why": why, **{name: getattr(shortcut, name) for name in FIELDS}}
    try:
        text = json.dumps({**kept, "kinds": list(shortcut.kinds)})
        if {_tuples(kind) for kind in json.loads(text)["kinds"]} != shortcut.kinds:
            return
        partial = f"{_file(folder)}.{os.getpid()}"
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, _file(folder))
    except (OSError, TypeError, ValueError) as error:
        print(f"proof is not kept: {error}", flush=True)


def _file(folder) -> str:
    return f"{folder}.proven"


def _by(switch) -> str:
    digest = hashlib.sha256(f"{switch} {sys.prefix}".encode())
    for name in SOURCES:
        with open(os.path.join(os.path.dirname(__file__), name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
