"""moto's S3 server as a process of its own, and the usual variables that lead to it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

BUCKET = "penstock"
STARTS_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class S3Server:
    pid: int
    variables: Mapping[str, str]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """With an empty bucket, BUCKET. What it holds is gone with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + STARTS_WITHIN_S
        while not _answers(port):
            assert server.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        httpx.put(f"{url}/{BUCKET}", trust_env=False).raise_for_status()
        keys = {"AWS_ACCESS_KEY_ID": "penstock", "AWS_SECRET_ACCESS_KEY": "penstock", "AWS_REGION": "us-east-1"}
        yield S3Server(server.pid, {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", **keys})
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
