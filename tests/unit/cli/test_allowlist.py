"""How `penstock allowlist` reads addresses and shows lists."""

from io import StringIO

import pytest
import typer
from rich.console import Console

from services.cli.allowlist import list_table, state_line, to_network
from services.shared.access_lists import AccessList, AccessLists

OFFICES = AccessList("1f0a", "offices", "ALLOW", ("203.0.113.0/24", "2001:db8::/32"), True, 1, 2)


def test_addresses_stay_as_they_were_typed() -> None:
    assert to_network("10.1.2.3/8") == "10.1.2.3/8"
    for text in ("10.0.0.300", "office", "10.0.0.0/33"):
        with pytest.raises(typer.BadParameter):
            to_network(text)


@pytest.mark.parametrize(
    ("access", "said"),
    [
        pytest.param(AccessLists({"1f0a": OFFICES}), "not enforced", id="lists that hold nobody back yet"),
        pytest.param(AccessLists({"1f0a": OFFICES}, enforced=True), "enforced", id="lists that do"),
        pytest.param(AccessLists(enforced=True), "everybody may call", id="no list at all"),
    ],
)
def test_it_is_said_whether_the_lists_hold(access: AccessLists, said: str) -> None:
    assert said in state_line(access)


def test_a_list_is_shown_with_all_its_addresses() -> None:
    console = Console(file=StringIO(), width=200)
    console.print(list_table(AccessLists({"1f0a": OFFICES})))
    assert isinstance(console.file, StringIO)
    row = console.file.getvalue().splitlines()[1]
    assert row.split()[:6] == ["1f0a", "offices", "ALLOW", "203.0.113.0/24", "2001:db8::/32", "yes"]
