"""`python -m services.scorer`: settings, wiring, run."""

import sys

from services.scorer.replica import run
from services.scorer.settings import ScorerServiceSettings
from services.shared.process import run_service

if __name__ == "__main__":
    sys.exit(run_service("scorer", ScorerServiceSettings, run))
