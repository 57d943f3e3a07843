"""How batches are cut, paced, judged and counted: tables of the decisions, without files or a broker."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from services.ingress.submissions.cuts import Cut, CutLog, Rows, item_id, lost_of, parts_of, read_cuts
from services.ingress.submissions.ledger import restored
from services.ingress.submissions.pace import FIRST_OPEN, FIRST_ROWS, MOST_OPEN, MOST_ROWS, RATE_WINDOW_MS, Ahead, Foresight, Pace
from services.ingress.submissions.verdicts import Verdict, judge

CUT = Cut(first=0, count=10, scored=9, round=0, at_ms=1_700_000_000_000, pool_id="p", entity="a", table="")


@pytest.mark.parametrize(
    ("status", "body", "rows", "is_late", "verdict"),
    [
        pytest.param(200, b'{"predictions": [1, 2]}', 2, False, Verdict.SETTLED, id="a prediction for each row"),
        pytest.param(200, b'{"predictions": [1]}', 2, False, Verdict.APART, id="fewer: which row they are of is seen when each is alone"),
        pytest.param(200, b'{"predictions": [1, 2]}', 1, False, Verdict.SETTLED, id="whatever one row alone is answered with"),
        pytest.param(200, b"no JSON", 2, False, Verdict.APART, id="no JSON for several"),
        pytest.param(200, b"no JSON", 1, False, Verdict.SETTLED, id="no JSON for one"),
        pytest.param(400, b"{}", 2, False, Verdict.APART, id="one of them fails"),
        pytest.param(400, b"{}", 1, False, Verdict.SETTLED, id="a row that fails alone has its error"),
        pytest.param(500, b"{}", 2, False, Verdict.APART, id="one of them kills its process"),
        pytest.param(500, b"{}", 1, False, Verdict.SETTLED, id="a poison row alone"),
        pytest.param(504, b"{}", 2, False, Verdict.APART, id="together they take too long"),
        pytest.param(504, b"{}", 2, True, Verdict.SETTLED, id="after the deadline their parts would be late, too"),
        pytest.param(503, b"{}", 2, False, Verdict.AGAIN, id="their pool went before they were scored"),
        pytest.param(503, b"{}", 1, False, Verdict.AGAIN, id="also of a row alone"),
        pytest.param(503, b"{}", 2, True, Verdict.SETTLED, id="their pool went, and so did their time"),
    ],
)
def test_an_answered_item_is_settled_taken_apart_or_asked_again(
    status: int, body: bytes, rows: int, is_late: bool, verdict: Verdict
) -> None:
    assert judge(status, body, rows, rows, is_late=is_late) is verdict


@pytest.mark.parametrize("count", [2, 15, 16, 17, 500, 50_000])
def test_an_item_is_taken_apart_into_a_few_that_cover_it(count: int) -> None:
    parts = parts_of(7, count)
    assert [row for first, size in parts for row in range(first, first + size)] == list(range(7, 7 + count))
    assert 1 < len(parts) <= 16


def paced(call_ms: float, row_ms: float, items: int = 200, noise: float = 0.0, start: Pace | None = None) -> Pace:
    """Eight items are always under way, so that each is cut by what is known of those eight before."""
    pace, draws, open_items = start or Pace(), Random(1), deque[int]()
    for _ in range(items):
        open_items.append(pace.rows_of_next)
        if len(open_items) > 8:
            rows = open_items.popleft()
            pace = pace.after(rows, round((call_ms + rows * row_ms) * (1 + noise * draws.uniform(-1, 1))))
    return pace


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(
    ("call_ms", "row_ms", "least_ms", "most_ms"),
    [
        pytest.param(0, 0.1, 40, 60, id="quick rows"),
        pytest.param(0, 5.0, 30, 60, id="slow rows"),
        pytest.param(10, 0.1, 40, 60, id="a call costs something"),
        pytest.param(60, 0.01, 80, 130, id="a call alone takes longer than an item should: half of an item is rows"),
        pytest.param(60, 5.0, 80, 140, id="so it is where rows are slow, too"),
        pytest.param(0, 1_000.0, 1_000, 1_000, id="a row that takes longer than an item may is alone"),
    ],
)
def test_items_come_to_take_fifty_milliseconds_or_twice_a_call(
    call_ms: float, row_ms: float, least_ms: float, most_ms: float, noise: float
) -> None:
    took_ms = call_ms + row_ms * paced(call_ms, row_ms, noise=noise).rows_of_next
    assert least_ms <= took_ms <= most_ms * (1 + noise)


@pytest.mark.parametrize("call_ms", [0, 20, 60, 1_000])
def test_where_rows_cost_nothing_items_are_as_large_as_may_be(call_ms: float) -> None:
    assert paced(call_ms, 0.0).rows_of_next == MOST_ROWS


def filled(lanes: int, item_s: float, for_s: float) -> int:
    """Items that may be open after a while, on a pool with so many lanes."""
    ahead, now_s, most = Ahead(), 0.0, FIRST_OPEN
    while now_s < for_s:
        now_s += item_s
        most = ahead.most_open(now_s, item_s * 1000)
        for _ in range(min(lanes, most)):
            ahead.answered(now_s)
    return most


@pytest.mark.parametrize(
    ("lanes", "item_s", "least", "most"),
    [
        pytest.param(4, 0.05, 80, 90, id="a second of quick items"),
        pytest.param(4, 0.3, 12, 20, id="slow ones do not wait behind many"),
        pytest.param(64, 0.05, MOST_OPEN, MOST_OPEN, id="a large pool"),
        pytest.param(64, 5.0, 128, 200, id="a large pool is filled by slow items, too"),
        pytest.param(4, 60.0, 8, 16, id="rows that take a minute"),
    ],
)
def test_as_many_are_open_as_keep_the_lanes_busy(lanes: int, item_s: float, least: int, most: int) -> None:
    assert least <= filled(lanes, item_s, 60 * item_s) <= most


def test_the_first_items_are_small_and_few() -> None:
    assert (Pace().rows_of_next, Ahead().most_open(0.0, 0.0)) == (FIRST_ROWS, FIRST_OPEN)


def test_a_model_that_became_slower_gets_smaller_items() -> None:
    assert paced(0, 10.0, 100, start=paced(0, 0.1)).rows_of_next < 10


def test_failures_say_nothing_of_time_and_open_the_way_all_the_same() -> None:
    assert Pace().after_failure() == replace(Pace(), seen=1)


def test_the_end_is_foreseen_by_the_last_half_minute() -> None:
    foresight = Foresight()
    assert foresight.estimated_end_ms(1_000, 1_000, 0) is None
    assert foresight.estimated_end_ms(2_000, 1_000, 0) is None, "nothing is settled"
    assert foresight.estimated_end_ms(3_000, 1_000, 100) == 3_000 + 18_000
    later = 3_000 + 2 * RATE_WINDOW_MS
    assert foresight.estimated_end_ms(later, 1_000, 200) == later + 2 * RATE_WINDOW_MS * 8, "slower since"
    assert foresight.estimated_end_ms(later + 1, 1_000, 1_000) is None, "all are settled"


def test_an_id_is_that_of_the_cut() -> None:
    own = item_id("b1", CUT)
    assert UUID(own).version == 7
    assert int(UUID(own)) >> 80 == CUT.at_ms
    changed = [replace(CUT, first=1), replace(CUT, count=1), replace(CUT, round=1), replace(CUT, at_ms=1)]
    others = [item_id("b2", CUT), *(item_id("b1", cut) for cut in changed)]
    assert len({own, *others}) == 6
    assert item_id("b1", replace(CUT, pool_id="q", entity="b")) == own


def test_a_cut_is_in_the_log_with_those_made_at_once_or_not_at_all(tmp_path: Path) -> None:
    file, parts = tmp_path / "cuts", [replace(CUT, first=first, count=5, round=1) for first in (0, 5)]
    log = CutLog(file)
    log.append([CUT])
    log.append(parts)
    log.close()
    whole = file.read_bytes()
    assert read_cuts(file) == [CUT, *parts]
    for torn in range(1, len(whole)):
        file.write_bytes(whole[:torn])
        assert read_cuts(file) in ([], [CUT])
        again = CutLog(file)
        again.append([replace(CUT, first=90)])
        again.close()
        assert read_cuts(file)[-1].first == 90, "what is torn does not spoil what follows"
    assert read_cuts(tmp_path / "none") == []


PARTS = [replace(CUT, first=0, count=4, scored=4, round=1), replace(CUT, first=4, count=6, scored=5, round=1)]
NEXT = replace(CUT, first=10, count=20, scored=20)


@pytest.mark.parametrize(
    ("cuts", "settled", "left", "next_row", "counts"),
    [
        pytest.param([], [], [], 0, (0, 0), id="nothing was cut"),
        pytest.param([CUT, NEXT], [(0, 200)], [NEXT], 30, (9, 1), id="a row that holds nothing fails beside those that are scored"),
        pytest.param([CUT, NEXT], [(10, 400)], [CUT], 30, (0, 20), id="answered in another order"),
        pytest.param([CUT, *PARTS], [], PARTS, 10, (0, 0), id="of an item that was taken apart its parts count"),
        pytest.param([CUT, *PARTS], [(4, 200)], PARTS[:1], 10, (5, 1), id="and are settled one by one"),
        pytest.param([CUT, NEXT, *PARTS], [(0, 200)], [PARTS[1], NEXT], 30, (4, 0), id="though more was cut before that"),
        pytest.param([CUT, replace(CUT, round=1, pool_id="q")], [], [replace(CUT, round=1, pool_id="q")], 10, (0, 0), id="cut anew whole"),
    ],
)
def test_the_ledger_is_restored(
    cuts: list[Cut], settled: list[tuple[int, int]], left: list[Cut], next_row: int, counts: tuple[int, int]
) -> None:
    ledger = restored("b1", 30, cuts, settled)
    assert sorted(ledger.open.values(), key=lambda cut: cut.first) == left
    assert ledger.open.keys() == {item_id("b1", cut) for cut in left}
    assert (ledger.next_row, (ledger.succeeded, ledger.failed)) == (next_row, counts)
    assert ledger.is_complete is (sum(counts) == 30)


@pytest.mark.parametrize(
    ("cuts", "lost"),
    [
        pytest.param([CUT, NEXT], [], id="nothing was taken apart"),
        pytest.param([CUT, *PARTS, NEXT], [], id="all parts were cut"),
        pytest.param([CUT, NEXT, PARTS[0]], [Rows(first, 1, 2) for first in range(4, 10)], id="one part was, when its process died"),
        pytest.param([CUT, PARTS[0]], [], id="behind the last item rows are as if never cut"),
        pytest.param(
            [CUT, NEXT, PARTS[0], replace(PARTS[0], count=1, round=2)],
            [Rows(first, 1, 3) for first in range(1, 10)],
            id="a part of a part was",
        ),
        pytest.param([CUT, NEXT, PARTS[0], replace(PARTS[1], round=2)], [], id="what was lost is cut by another process"),
    ],
)
def test_rows_that_were_to_be_cut_again_are_found(cuts: list[Cut], lost: list[Rows]) -> None:
    assert lost_of(cuts) == lost
