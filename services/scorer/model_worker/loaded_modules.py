"""Which modules of its environment a model has needed: what a warm parent imports for the next one."""

import sys
import sysconfig
from typing import List

_PLACES = ("stdlib", "platstdlib", "purelib", "platlib")


def loaded_modules() -> List[str]:
    """Those of the environment and the standard library, in the order in which they were loaded; none of the model's own."""
    roots = tuple(sysconfig.get_paths()[place] + "/" for place in _PLACES)
    return [name for name, module in list(sys.modules.items()) if name != "__main__" and _file_of(module).startswith(roots)]


def _file_of(module) -> str:
    """An empty one for what has none. Modules that load themselves when they are looked at are left asleep."""
    try:
        return object.__getattribute__(module, "__dict__").get("__file__") or ""
    except AttributeError:
        return ""
