"""Start of the model worker: this package under a name that no model's code has, and nothing else of the project."""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

NAME = "penstock_model_worker"
WARM = "warm"


def start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = spec_from_file_location(NAME, os.path.join(here, "__init__.py"), submodule_search_locations=[here])
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[NAME] = module_from_spec(spec)
    spec.loader.exec_module(package)
    if sys.argv[1] == WARM:
        from penstock_model_worker.warm_parent import stand_by

        stand_by(sys.argv[2], sys.argv[3])
    else:
        from penstock_model_worker.serving import start_fresh

        start_fresh(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    start()
