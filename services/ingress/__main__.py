"""`python -m services.ingress`: settings, wiring, run."""

import sys

import uvloop

from services.ingress.app import serve
from services.ingress.settings import IngressServiceSettings
from services.shared.errors import SettingsInvalid
from services.shared.settings import load_settings
from services.shared.telemetry import start_telemetry, stop_telemetry


def main() -> int:
    try:
        settings = load_settings(IngressServiceSettings)
    except SettingsInvalid as error:
        print(f"ingress: {error}", file=sys.stderr)
        return 2
    start_telemetry("ingress", settings.log.level)
    uvloop.run(serve(settings))
    stop_telemetry()
    return 0


if __name__ == "__main__":
    sys.exit(main())
