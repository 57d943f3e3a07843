"""Reads the rows of a batch as items: those that are to be cut next, with the bodies that ask a model for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.ingress.submissions.cuts import Rows
from services.ingress.submissions.pace import MAX_BODY_BYTES, MOST_ROWS
from services.ingress.submissions.row_file import Body, RowFile

MOST_BYTES = 16 * MAX_BODY_BYTES  # of bodies that are read at once; large rows go a few at a time
SLACK = 0.9  # the rows that are left may be longer than those that were


@dataclass(frozen=True, slots=True)
class Item:
    rows: Rows
    scored: int  # those that the body asks for
    body: Body


class ItemReader:
    """Reads files, so this belongs in a thread, one call at a time."""

    def __init__(self, rows: RowFile, params: Mapping[str, Any]) -> None:
        self._rows = rows
        self._params = params
        self._most_rows = MOST_ROWS  # that a body holds, by the last one

    def read(self, again: Sequence[Rows], at: int, size: int, room: int) -> list[Item]:
        """At most `room` items: those to be cut again, then rows from `at` on, which never were, `size` of them in each if they fit."""
        found: list[Item] = []
        while self._has_place(found, room) and (len(found) < len(again) or at < self._rows.rows):
            if len(found) < len(again):
                found.append(self._item(again[len(found)]))
            else:
                found.append(self._fitting(Rows(at, min(size, self._most_rows, self._rows.rows - at), 0)))
                at += found[-1].rows.count
        return found

    def body(self, first: int, count: int) -> Body:
        return self._rows.part(first, count).body(self._params)

    def _has_place(self, found: Sequence[Item], room: int) -> bool:
        return len(found) < room and sum(len(item.body.content) for item in found) < MOST_BYTES

    def _item(self, rows: Rows) -> Item:
        part = self._rows.part(rows.first, rows.count)
        return Item(rows, part.scored, part.body(self._params))

    def _fitting(self, rows: Rows) -> Item:
        """As many of the rows as a body should hold, though one at least."""
        while True:
            item = self._item(rows)
            size = len(item.body.content)
            self._most_rows = max(1, int(rows.count * SLACK * MAX_BODY_BYTES / size))
            if rows.count == 1 or size <= MAX_BODY_BYTES:
                return item
            rows = replace(rows, count=min(rows.count - 1, self._most_rows))
