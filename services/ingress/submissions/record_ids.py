"""The request id of a submitted record: the same however often the record is read, or what its sender names is sent again (R5). Pure."""

from hashlib import sha256
from uuid import UUID

_LOW_BITS = 53  # as many as a float holds


def id_of_record(topic: str, partition: int, offset: int, appended_ms: int) -> str:
    """A UUIDv7 of the time the broker appended the record at, which tells it from one of a topic that was made again (R18)."""
    return _uuid7(appended_ms, f"{topic}/{partition}/{offset}/{appended_ms}")


def id_of_sender(endpoint_id: str, own: str) -> str:
    """By the sender's own id, for one endpoint. It has the time of a UUIDv7; of any other the logger must look into the table."""
    name = f"{endpoint_id}/{own}"
    try:
        known = UUID(own)
    except ValueError:
        return _uuid5(name)
    return _uuid7(known.int >> 80, name) if known.version == 7 else _uuid5(name)


def id_of_rows(batch_id: str, first: int, count: int, cutting: int, cut_ms: int) -> str:
    """Of an item of a batch: a UUIDv7 of the time it was cut at, for the `cutting`th time."""
    return _uuid7(cut_ms, f"{batch_id}/{first}/{count}/{cutting}")


def draw_of(request_id: str) -> float:
    """0 ≤ draw < 1, by which the served entity is chosen: what is read again is routed as before while the config is the same."""
    return (UUID(request_id).int & ((1 << _LOW_BITS) - 1)) / (1 << _LOW_BITS)


def _uuid7(ms: int, name: str) -> str:
    """RFC 9562 §5.7, with a digest where that has random bits."""
    value = (ms & ((1 << 48) - 1)) << 80 | int.from_bytes(sha256(name.encode()).digest()[:10])
    return str(UUID(int=_marked(value, 7)))


def _uuid5(name: str) -> str:
    return str(UUID(int=_marked(int.from_bytes(sha256(name.encode()).digest()[:16]), 5)))


def _marked(value: int, version: int) -> int:
    return value & ~(0xF << 76) & ~(0x3 << 62) | version << 76 | 0x2 << 62
