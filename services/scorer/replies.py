"""Answers on their way to the ingress processes that wait: packed, one stream each, one round trip for all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from redis.asyncio import Redis

from services.shared.clock import now_ms
from services.shared.envelope import MAX_PACK_BYTES, REPLICA, REPLIES, ScoringReply, pack_replies
from services.shared.kept_answers import ANSWER
from services.shared.topics import kept_answer

LONGEST_STREAM = 10_000  # entries; the reader trims behind itself, this bounds a stream whose reader is slow to die


def pack_by_stream(replies: Iterable[tuple[str, ScoringReply]]) -> Mapping[str, list[bytes]]:
    """Stream → entries, in order. An entry stays near 1 MB; a larger reply travels alone."""
    by_stream: dict[str, list[ScoringReply]] = defaultdict(list)
    for stream, reply in replies:
        by_stream[stream].append(reply)
    return {stream: [pack_replies(pack) for pack in _packs(waiting)] for stream, waiting in by_stream.items()}


async def send_replies(redis: Redis, entries: Mapping[str, list[bytes]], replica_id: str) -> None:
    """Append to the streams that exist: one that is gone has no reader (R8). Raises RedisError; a repeat is harmless."""
    if not entries:
        return
    async with redis.pipeline(transaction=False) as pipe:
        for stream, packs in entries.items():
            for pack in packs:
                if stream.startswith(kept_answer("")):
                    pipe.eval(ANSWER, 1, stream, pack, replica_id, now_ms())  # it counts, and the first is kept
                else:
                    pipe.xadd(stream, {REPLIES: pack, REPLICA: replica_id}, maxlen=LONGEST_STREAM, approximate=True, nomkstream=True)
        await pipe.execute()


def _packs(replies: list[ScoringReply]) -> Iterator[list[ScoringReply]]:
    pack: list[ScoringReply] = []
    size = 0
    for reply in replies:
        if pack and size + len(reply.body) > MAX_PACK_BYTES:
            yield pack
            pack, size = [], 0
        pack.append(reply)
        size += len(reply.body)
    if pack:
        yield pack
