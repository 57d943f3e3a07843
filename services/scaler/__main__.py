"""`python -m services.scaler`: settings, wiring, run."""

import sys

from services.scaler.app import run
from services.scaler.settings import ScalerServiceSettings
from services.shared.process import run_service

if __name__ == "__main__":
    sys.exit(run_service("scaler", ScalerServiceSettings, run))
