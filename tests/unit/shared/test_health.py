"""What a service tells of its health on the socket it was handed."""

import asyncio
import socket
import threading

import httpx
import pytest

from services.shared.health import HEALTH_VARIABLE, health_served


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    listening = socket.create_server(("127.0.0.1", 0))
    host, port = listening.getsockname()
    monkeypatch.setenv(HEALTH_VARIABLE, str(listening.detach()))
    return f"http://{host}:{port}/health"


async def fine() -> str:
    return ""


async def asleep() -> str:
    return "No partitions are assigned."


async def test_alive_ready_and_what_is_neither(address: str) -> None:
    async with health_served(fine), httpx.AsyncClient() as http:
        assert (await http.get(f"{address}/live")).json() == {"status": "alive"}
        assert (await http.get(f"{address}/ready")).json() == {"status": "ready"}
        assert (await http.get(f"{address}/else")).status_code == 404


async def test_not_ready_says_why_and_is_alive(address: str) -> None:
    async with health_served(asleep), httpx.AsyncClient() as http:
        ready = await http.get(f"{address}/ready")
        assert (ready.status_code, ready.json()["message"]) == (503, "No partitions are assigned.")
        assert (await http.get(f"{address}/live")).status_code == 200


def test_a_loop_that_hangs_is_not_alive(address: str) -> None:
    """The loop stands still until it has been asked."""
    asked, told = threading.Event(), []

    def ask() -> None:
        told.append(httpx.get(f"{address}/live", timeout=10).status_code)
        asked.set()

    async def hang() -> None:
        async with health_served(fine):
            threading.Thread(target=ask).start()
            asked.wait(10)

    asyncio.run(hang())
    assert told == [503]


async def test_without_a_socket_nothing_is_served() -> None:
    async with health_served(fine):
        assert not [thread for thread in threading.enumerate() if thread.name == "health"]
