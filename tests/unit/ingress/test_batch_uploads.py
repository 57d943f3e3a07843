"""Files written as they come: their limits, and what is left of them."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from services.ingress.batch_uploads import PIECE_BYTES, require_room, save_body
from services.shared.errors import BodyTooSlow, LimitExceeded, PayloadTooLarge, TryAgainLater


def request_of(*chunks: bytes, announced: int | None = None, ends: bool = True) -> Request:
    """`ends` False: its sender is silent after the last chunk."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        if not ends:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


async def test_what_came_is_what_lies_there(tmp_path: Path) -> None:
    chunks = [b"a" * 70_000] * 40
    saved = await save_body(request_of(*chunks), tmp_path / "input", 2**30, 1)
    content = b"".join(chunks)
    assert len(content) > 2 * PIECE_BYTES
    assert (tmp_path / "input").read_bytes() == content
    assert (saved.size, saved.sha256) == (len(content), sha256(content).hexdigest())


async def test_what_is_announced_as_too_long_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge):
        await save_body(request_of(announced=101), tmp_path / "input", 100, 1)
    assert not (tmp_path / "input").exists()


async def test_what_grows_too_long_ends_there(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge):
        await save_body(request_of(*[b"a" * PIECE_BYTES] * 3), tmp_path / "input", 2 * PIECE_BYTES, 1)
    assert (tmp_path / "input").stat().st_size <= 2 * PIECE_BYTES


async def test_a_silent_sender_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(BodyTooSlow):
        await save_body(request_of(b"a", ends=False), tmp_path / "input", 100, 0.01)


async def test_a_sender_who_leaves_is_told_from_one_who_is_done(tmp_path: Path) -> None:
    async def gone() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b"a", "more_body": True}
        yield {"type": "http.disconnect"}

    messages = gone()
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, lambda: anext(messages))
    with pytest.raises(ClientDisconnect):
        await save_body(request, tmp_path / "input", 100, 1)


async def test_a_full_disk_is_for_a_while(tmp_path: Path) -> None:
    with pytest.raises(TryAgainLater):
        await save_body(request_of(b"a"), Path("/dev/full"), 100, 1)


def test_batches_hold_so_much_in_all(tmp_path: Path) -> None:
    (tmp_path / "b1").mkdir()
    (tmp_path / "b1" / "input").write_bytes(b"a" * 100)
    require_room(tmp_path, 50, 150)
    with pytest.raises(LimitExceeded):
        require_room(tmp_path, 51, 150)
    with pytest.raises(TryAgainLater):
        require_room(tmp_path, 2**60, 2**61)
