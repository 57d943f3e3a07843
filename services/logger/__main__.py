"""`python -m services.logger`: settings, wiring, run."""

import asyncio
import sys

from services.logger.settings import LoggerServiceSettings
from services.shared.errors import SettingsInvalid
from services.shared.settings import load_settings
from services.shared.telemetry import start_telemetry, stop_telemetry


def main() -> int:
    try:
        settings = load_settings(LoggerServiceSettings)
    except SettingsInvalid as error:
        print(f"logger: {error}", file=sys.stderr)
        return 2
    start_telemetry("logger", settings.log.level)
    from services.logger.app import serve  # after logging is set up: importing Faust reads the environment

    asyncio.run(serve(settings))
    stop_telemetry()
    return 0


if __name__ == "__main__":
    sys.exit(main())
