"""`python -m services.ingress`: settings, wiring, run."""

import sys

from services.ingress.app import serve
from services.ingress.settings import IngressServiceSettings
from services.shared.process import run_service

if __name__ == "__main__":
    sys.exit(run_service("ingress", IngressServiceSettings, serve))
