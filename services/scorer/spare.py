"""`python -m services.scorer.spare <descriptor>`: a replica that has imported all it needs, before there is a pool for it.

Over the descriptor's socket comes one message: JSON with the `environment` of the replica and, in `descriptors`, the names of
variables that stand for a descriptor each; beside it the log file and those descriptors, in this order. From then on it is the
process that `python -m services.scorer` would have been. The end of the socket instead of a message: it was not needed.
"""

import gc
import json
import os
import socket
import sys

from services.scorer.replica import run
from services.scorer.settings import ScorerServiceSettings
from services.shared.process import run_service

LONGEST_MESSAGE = 256 * 1024
MOST_DESCRIPTORS = 8


def become_replica(orders: socket.socket) -> bool:
    """Wait for the message and take on what it says. False: there is none to come."""
    message, descriptors, _, _ = socket.recv_fds(orders, LONGEST_MESSAGE, MOST_DESCRIPTORS)
    if not message:
        return False
    orders.close()
    order = json.loads(message)
    output, *others = descriptors
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.close(output)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ.update(zip(order["descriptors"], map(str, others), strict=True))
    return True


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # what was imported stays for good
    sys.exit(run_service("scorer", ScorerServiceSettings, run) if become_replica(socket.socket(fileno=int(sys.argv[1]))) else 0)
