"""What becomes of an item that was answered: settled, taken apart, or asked again. Pure."""

from enum import Enum

from services.ingress.submissions.predictions import NotByRow, read_predictions

OK, REFUSED = 200, 503  # 503: the served entity was removed before the item was scored


class Verdict(Enum):
    SETTLED = "settled"
    APART = "apart"
    AGAIN = "again"


def judge(status: int, body: bytes, rows: int, scored: int, *, is_late: bool) -> Verdict:
    """`is_late`: the item's deadline is over, so whatever is asked now would be, too. A row that fails alone has its error."""
    if status == REFUSED and not is_late:
        return Verdict.AGAIN
    if status == OK and _is_by_row(body, scored):
        return Verdict.SETTLED
    return Verdict.SETTLED if rows == 1 or is_late else Verdict.APART


def _is_by_row(body: bytes, scored: int) -> bool:
    try:
        read_predictions(body, scored)
    except NotByRow:
        return False
    return True
