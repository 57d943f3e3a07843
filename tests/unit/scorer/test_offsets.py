from hypothesis import given
from hypothesis import strategies as st

from services.scorer.offsets import PartitionOffsets


@given(st.sets(st.integers(0, 500), min_size=1), st.randoms(use_true_random=False))
def test_only_a_prefix_without_holes_is_committed(offsets: set[int], random: st.DrawFn) -> None:
    tracker = PartitionOffsets()
    order = sorted(offsets)
    for offset in order:
        tracker.take(offset)
    shuffled = order.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    finished: set[int] = set()
    for offset in shuffled:
        tracker.finish(offset)
        tracker.finish(offset)  # a repeat changes nothing
        finished.add(offset)
        hole = next((o for o in order if o not in finished), None)
        prefix = [o for o in order if hole is None or o < hole]
        assert tracker.next_offset == (prefix[-1] + 1 if prefix else None)
        assert tracker.unfinished == len(order) - len(finished)
