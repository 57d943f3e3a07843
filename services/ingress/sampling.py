"""Which of an endpoint's requests its inference table gets, where it is to get a share of them only. Pure."""

from hashlib import sha256

_BITS = 53  # as many as a float holds


def is_logged(request_id: str, fraction: float) -> bool:
    """Decided by the id, so the same for a record that is read again; by its digest, since the id's own bits choose the entity."""
    if fraction >= 1:
        return True
    drawn = int.from_bytes(sha256(request_id.encode()).digest()[:8]) >> (64 - _BITS)
    return drawn / (1 << _BITS) < fraction
