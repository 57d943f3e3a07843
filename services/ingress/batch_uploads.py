"""Files that come as the body of a request, written to disk as they come and never held in memory."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request

from services.ingress.disk_room import LEFT_FREE_BYTES, used_bytes
from services.shared.errors import BodyTooSlow, LimitExceeded, PayloadTooLarge, TryAgainLater
from services.shared.settings import MIB

PIECE_BYTES = MIB  # what is written at once


@dataclass(frozen=True, slots=True)
class Upload:
    size: int
    sha256: str


async def save_body(request: Request, file: Path, limit_bytes: int, silence_s: float) -> Upload:
    """Raises PayloadTooLarge, BodyTooSlow when nothing comes for `silence_s`, TryAgainLater when the disk is full, ClientDisconnect."""
    if int(request.headers.get("content-length", 0)) > limit_bytes:
        raise _too_large(limit_bytes)
    size, digest = 0, sha256()
    try:
        with file.open("wb") as saved:
            async for piece in _pieces(request, silence_s):
                size += len(piece)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                await asyncio.to_thread(_write, saved.fileno(), piece)
                digest.update(piece)
    except OSError as error:
        raise TryAgainLater("The node has no room for the input of a batch.", retry_after_s=60) from error
    return Upload(size, digest.hexdigest())


def require_room(folder: Path, coming_bytes: int, limit_bytes: int) -> None:
    """Raises LimitExceeded: batches may hold `limit_bytes` in all; TryAgainLater: the disk itself is nearly full."""
    used = used_bytes(folder)
    if used + coming_bytes > limit_bytes:
        raise LimitExceeded(
            f"The batches of this node hold {used} bytes, of {limit_bytes} they may; those that have ended are kept for a while."
        )
    if shutil.disk_usage(folder).free < coming_bytes + LEFT_FREE_BYTES:
        raise TryAgainLater("The node has no room for the input of a batch.", retry_after_s=60)


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


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The input is larger than the limit of {limit_bytes} bytes.")
