"""Finding a free port, and saying which setting to change when one is taken."""

import random
import socket

from services.cli.failures import StackFailure

LOOPBACK = "127.0.0.1"
_CHOICES = range(20_000, 32_000)  # below Linux' ephemeral range: no outgoing connection takes the port in between


def free_port() -> int:
    """A port nobody listens on now."""
    for port in random.sample(_CHOICES, 200):
        if not _is_taken(port):
            return port
    raise StackFailure("no free port was found between 20000 and 32000")


def claim_port(port: int, what: str, variable: str) -> int:
    """`port`, or any free one for 0. Raises StackFailure when somebody listens on it."""
    if port == 0:
        return free_port()
    if _is_taken(port):
        raise StackFailure(f"port {port} for {what} is in use; set {variable} to another one (0: any free one)")
    return port


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False
