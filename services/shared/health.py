"""`/health/live` and `/health/ready` of a service that has no HTTP API of its own, on a socket its supervisor hands it."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

HEALTH_VARIABLE = "PENSTOCK_HEALTH_FD"
PATIENCE_S = 2.0  # an event loop that does not turn for so long is not alive

WhyNotReady = Callable[[], Coroutine[Any, Any, str]]  # "" while it is


@asynccontextmanager
async def health_served(why_not_ready: WhyNotReady) -> AsyncIterator[None]:
    """Answer as long as it is entered; does nothing where no socket was handed over.

    A thread answers, and asks the event loop: one that hangs shows as not alive, where a task in it would show as silence.
    """
    descriptor = os.environ.pop(HEALTH_VARIABLE, None)
    if descriptor is None:
        yield
        return
    server = _Server(socket.socket(fileno=int(descriptor)), why_not_ready)
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, why_not_ready: WhyNotReady) -> None:
        super().__init__(listening.getsockname(), _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self._why_not_ready = why_not_ready
        self._loop = asyncio.get_running_loop()

    def problem(self, path: str) -> str:
        """An empty one for none."""
        check = _turns() if path == "/health/live" else self._why_not_ready()
        try:
            return asyncio.run_coroutine_threadsafe(check, self._loop).result(PATIENCE_S)
        except TimeoutError:
            return f"The process has not answered for {PATIENCE_S:g} seconds."


class _Answer(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        if self.path not in ("/health/live", "/health/ready"):
            self._answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"No API found for 'GET {self.path}'.", "details": []})
        elif problem := self.server.problem(self.path):
            self._answer(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": problem, "details": []})
        else:
            self._answer(200, {"status": self.path.rpartition("/")[2].replace("live", "alive")})

    def log_message(self, *_: object) -> None:
        """A probe every few seconds is no news."""

    def _answer(self, status: int, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


async def _turns() -> str:
    return ""
