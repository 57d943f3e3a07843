"""What of a batch is cut, open and settled. Pure: it is restored from the files that say so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.ingress.submissions.cuts import Cut, item_id, leaves_of
from services.ingress.submissions.verdicts import OK


@dataclass(slots=True)
class Ledger:
    """`open`: items that are cut and not settled, by request id."""

    batch_id: str
    rows: int
    next_row: int = 0  # of those that were never cut
    open: dict[str, Cut] = field(default_factory=dict)
    succeeded: int = 0
    failed: int = 0

    @property
    def settled(self) -> int:
        return self.succeeded + self.failed

    @property
    def is_complete(self) -> bool:
        return self.settled == self.rows

    def add(self, cuts: Sequence[Cut]) -> list[str]:
        """Their ids. They are of rows that were never cut, or of an item that is no longer open."""
        ids = [item_id(self.batch_id, cut) for cut in cuts]
        self.open |= dict(zip(ids, cuts, strict=True))
        self.next_row = max([self.next_row, *(cut.first + cut.count for cut in cuts)])
        return ids

    def close(self, request_id: str) -> Cut:
        """It is about to be settled, or cut again."""
        return self.open.pop(request_id)

    def settle(self, cut: Cut, status: int) -> None:
        succeeded = cut.scored if status == OK else 0
        self.succeeded += succeeded
        self.failed += cut.count - succeeded


def restored(batch_id: str, rows: int, cuts: Sequence[Cut], settled: Iterable[tuple[int, int]]) -> Ledger:
    """`settled`: first row and status of what has its last word. Rows that `lost_of` finds are to be cut again."""
    ledger, statuses = Ledger(batch_id, rows), dict(settled)
    for cut in leaves_of(cuts):
        [request_id] = ledger.add([cut])
        if cut.first in statuses:
            ledger.settle(ledger.close(request_id), statuses[cut.first])
    return ledger
