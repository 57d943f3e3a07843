"""Tells the process that started this one that it is ready, through an inherited pipe (the idea of sd_notify)."""

import os

READY_VARIABLE = "PENSTOCK_READY_FD"
LISTEN_VARIABLE = "PENSTOCK_LISTEN_FD"  # the ingress' listening socket, bound by the supervisor


def tell_ready() -> None:
    """Report readiness once; does nothing when nobody asked for it, and a repeat does nothing."""
    descriptor = os.environ.pop(READY_VARIABLE, None)
    if descriptor is None:
        return
    with os.fdopen(int(descriptor), "wb") as pipe:
        pipe.write(b"READY=1\n")
