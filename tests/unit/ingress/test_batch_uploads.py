"""Files written as they come: their limits, and what is left of them."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from services.ingress.batch_uploads import PIECE_BYTES, Room, digest_body, room_for_upload, save_body
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


def up_to(most: int) -> Room:
    return Room(most, most, most)


async def test_what_came_is_what_lies_there(tmp_path: Path) -> None:
    chunks = [b"a" * 70_000] * 40
    saved = await save_body(request_of(*chunks), tmp_path / "input", up_to(2**30), 1)
    content = b"".join(chunks)
    assert len(content) > 2 * PIECE_BYTES
    assert (tmp_path / "input").read_bytes() == content
    assert (saved.size, saved.sha256) == (len(content), sha256(content).hexdigest())


async def test_what_is_announced_as_too_long_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge):
        await save_body(request_of(announced=101), tmp_path / "input", up_to(100), 1)
    assert not (tmp_path / "input").exists()


async def test_what_grows_too_long_ends_there(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge):
        await save_body(request_of(*[b"a" * PIECE_BYTES] * 3), tmp_path / "input", up_to(2 * PIECE_BYTES), 1)
    assert (tmp_path / "input").stat().st_size <= 2 * PIECE_BYTES


async def test_a_silent_sender_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(BodyTooSlow):
        await save_body(request_of(b"a", ends=False), tmp_path / "input", up_to(100), 0.01)


async def test_a_sender_who_leaves_is_told_from_one_who_is_done(tmp_path: Path) -> None:
    async def gone() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b"a", "more_body": True}
        yield {"type": "http.disconnect"}

    messages = gone()
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, lambda: anext(messages))
    with pytest.raises(ClientDisconnect):
        await save_body(request, tmp_path / "input", up_to(100), 1)


async def test_a_full_disk_is_for_a_while(tmp_path: Path) -> None:
    with pytest.raises(TryAgainLater):
        await save_body(request_of(b"a"), Path("/dev/full"), up_to(100), 1)


async def test_a_body_that_is_not_kept_has_the_digest_of_one_that_is(tmp_path: Path) -> None:
    chunks = [b"a" * 70_000] * 40
    saved = await save_body(request_of(*chunks), tmp_path / "input", up_to(2**30), 1)
    assert await digest_body(request_of(*chunks), 2**30, 1) == saved.sha256
    with pytest.raises(PayloadTooLarge):
        await digest_body(request_of(*chunks), PIECE_BYTES, 1)


@pytest.mark.parametrize("announced", [pytest.param(3 * PIECE_BYTES, id="says its length"), pytest.param(None, id="does not")])
@pytest.mark.parametrize(
    ("room", "refusal"),
    [
        pytest.param(Room(2**30, 2 * PIECE_BYTES, 2**30), LimitExceeded, id="batches hold so much in all"),
        pytest.param(Room(2**30, 2**30, 2 * PIECE_BYTES), TryAgainLater, id="the disk is nearly full"),
    ],
)
async def test_an_upload_has_the_room_there_is(room: Room, refusal: type[Exception], announced: int | None, tmp_path: Path) -> None:
    sent = request_of(*[b"a" * PIECE_BYTES] * 3, announced=announced)
    with pytest.raises(refusal):
        await save_body(sent, tmp_path / "input", room, 1)


def test_room_is_what_the_folder_leaves(tmp_path: Path) -> None:
    (tmp_path / "b1").mkdir()
    (tmp_path / "b1" / "input").write_bytes(b"a" * 100)
    room = room_for_upload(tmp_path, 1_000, 150)
    assert (room.most, room.of_batches) == (1_000, 50)
    room.require(50)
    with pytest.raises(LimitExceeded):
        room.require(51)
