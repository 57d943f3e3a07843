"""Whose an inference table is. Who manages an endpoint reads its table, so naming a table must not be a way to read it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.shared.control_events import PrincipalKind
from services.shared.errors import AlreadyExists


@dataclass(frozen=True, slots=True)
class TableOwner:
    """The endpoint that a table was made for, by its name, and who had made that endpoint."""

    endpoint: str
    creator: str
    creator_kind: PrincipalKind


TableOwners = Mapping[str, TableOwner]  # by the table's three-level name


def claim(owners: TableOwners, tables: Iterable[str], claimant: TableOwner, *, is_admin: bool) -> TableOwners:
    """A table stays its endpoint's, also when that is gone. One that is made again under its name goes on with the table (R7), if the
    same principal makes it, or an admin, whose it is then.

    Raises AlreadyExists.
    """
    claimed = dict.fromkeys(tables, claimant)
    for table in claimed:
        owner = owners.get(table, claimant)
        if owner != claimant and (owner.endpoint != claimant.endpoint or not is_admin):
            raise AlreadyExists(f"Table {table} was made for another endpoint, or by somebody else; choose another 'table_name_prefix'.")
    return owners if claimed.items() <= owners.items() else {**owners, **claimed}
