"""`python -m services.ingress.submissions`: settings, wiring, run."""

import sys

from services.ingress.settings import IngressServiceSettings
from services.ingress.submissions.app import run
from services.shared.process import run_service

if __name__ == "__main__":
    sys.exit(run_service("submissions", IngressServiceSettings, run))
