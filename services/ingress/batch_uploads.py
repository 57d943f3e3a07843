"""Files that come as the body of a request, written to disk as they come and never held in memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request

from services.ingress.disk_room import free_bytes, used_bytes
from services.shared.errors import BodyTooSlow, LimitExceeded, PayloadTooLarge, TryAgainLater
from services.shared.settings import MIB

PIECE_BYTES = MIB  # what is written at once


@dataclass(frozen=True, slots=True)
class Upload:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Room:
    """What an upload may have, in bytes; those of others that come at the same time are not foreseen."""

    most: int  # of any upload
    of_batches: int  # until all batches of the node hold what they may
    of_disk: int

    def require(self, size: int) -> None:
        """Raises PayloadTooLarge, LimitExceeded or TryAgainLater."""
        if size > self.most:
            raise PayloadTooLarge(f"The input is larger than the limit of {self.most} bytes.")
        if size > self.of_batches:
            raise LimitExceeded(
                f"The batches of this node may hold {max(0, self.of_batches)} bytes more; those that have ended are kept for a while."
            )
        if size > self.of_disk:
            raise _no_room()


async def save_body(request: Request, file: Path, room: Room, silence_s: float) -> Upload:
    """What is on disk when this returns outlives a loss of power.

    Raises what `room` does, also for a body that says only as it comes how long it is; BodyTooSlow when nothing comes for
    `silence_s`, TryAgainLater when the disk is full, ClientDisconnect.
    """
    room.require(int(request.headers.get("content-length", 0)))
    size, digest = 0, sha256()
    try:
        with file.open("wb") as saved:
            async for piece in _pieces(request, silence_s):
                size += len(piece)
                room.require(size)
                await asyncio.to_thread(_write, saved.fileno(), piece)
                digest.update(piece)
            await asyncio.to_thread(os.fsync, saved.fileno())
    except OSError as error:
        raise _no_room() from error
    return Upload(size, digest.hexdigest())


async def digest_body(request: Request, most: int, silence_s: float) -> str:
    """As `Upload.sha256`, of a body that is not kept. Raises PayloadTooLarge, BodyTooSlow, ClientDisconnect."""
    size, digest = 0, sha256()
    async for piece in _pieces(request, silence_s):
        size += len(piece)
        Room(most, most, most).require(size)
        digest.update(piece)
    return digest.hexdigest()


def room_for_upload(folder: Path, most: int, limit_bytes: int) -> Room:
    """In the batches' folder, all of which may hold `limit_bytes`."""
    return Room(most, limit_bytes - used_bytes(folder), free_bytes(folder))


async def _pieces(request: Request, silence_s: float) -> AsyncIterator[bytes]:
    piece, stream = bytearray(), request.stream()
    while (chunk := await _next(stream, silence_s)) is not None:
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


async def _next(stream: AsyncIterator[bytes], silence_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(silence_s):
            return await anext(stream, None)
    except TimeoutError as error:
        raise BodyTooSlow(f"Nothing of the request body arrived for {silence_s:g} seconds.") from error


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _no_room() -> TryAgainLater:
    return TryAgainLater("The node has no room for the input of a batch.", retry_after_s=60)
