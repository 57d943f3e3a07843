"""Which records are logged, partition by partition: nothing may be acknowledged past a hole. Pure."""

from collections.abc import Iterable, Mapping


class HoleInRecords(Exception):
    """Records between what is logged and what came next were never delivered.

    Acknowledging what came would move the group offset past them (Faust itself commits past a hole, traps C4): the process
    must end and read again from the group offset.
    """

    def __init__(self, partition: int, expected: int, got: int) -> None:
        super().__init__(f"partition {partition}: expected offset {expected}, got {got}")


def settle(next_offsets: Mapping[int, int], positions: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The next offsets after a flush of these (partition, offset) positions, in the order they came.

    `next_offsets` holds, for every partition among them, the first offset not known to be logged. A redelivered position
    changes nothing. Raises HoleInRecords when one is skipped; our topics have no gaps of their own, being neither
    compacted nor transactional.
    """
    settled = dict(next_offsets)
    for partition, offset in positions:
        expected = settled[partition]
        if offset > expected:
            raise HoleInRecords(partition, expected, offset)
        settled[partition] = max(expected, offset + 1)
    return settled
