"""`penstock allowlist …`: from which addresses the workspace may be called, written to the control log of the running stack.

It is not asked whether its author would be locked out: who sits at the machine needs no address to undo it.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from services.cli.control_log import publish, read_state
from services.cli.layout import cell, console, error_console, moment, table
from services.shared.access_lists import AccessLists
from services.shared.addresses import parse_network
from services.shared.clock import now_ms
from services.shared.control_events import AccessListCreated, AccessListDeleted, AccessListsSwitched, ListType

allowlist = typer.Typer(help="From which IP addresses the REST API may be called.", no_args_is_help=True)


def to_network(text: str) -> str:
    """Raises typer.BadParameter."""
    try:
        parse_network(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


Label = Annotated[str, typer.Argument(help="what to call the list, e.g. offices")]
Addresses = Annotated[
    list[str], typer.Argument(parser=to_network, metavar="ADDRESS", help="addresses and networks: 203.0.113.7 10.0.0.0/8")
]


@allowlist.command("list")
def show(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Show the lists, and whether they are enforced."""
    access = read_state().access
    if as_json:
        print(json.dumps({"enforced": access.enforced, "lists": [asdict(each) for each in access.lists.values()]}, indent=2))
        return
    if access.lists:
        console().print(list_table(access))
    console().print(cell(state_line(access)))


@allowlist.command()
def allow(label: Label, addresses: Addresses) -> None:
    """Add an allow list: once there is one, whoever is on none may not call."""
    _add("ALLOW", label, addresses)


@allowlist.command()
def block(label: Label, addresses: Addresses) -> None:
    """Add a block list: who is on one may not call, whatever allows it."""
    _add("BLOCK", label, addresses)


@allowlist.command()
def remove(list_id: Annotated[str, typer.Argument(metavar="ID", help="as `penstock allowlist list` shows it")]) -> None:
    """Remove a list."""
    publish(AccessListDeleted(at_ms=now_ms(), list_id=list_id))


@allowlist.command()
def on() -> None:
    """Enforce the lists, on every route of every ingress process."""
    publish(AccessListsSwitched(at_ms=now_ms(), enforced=True))


@allowlist.command()
def off() -> None:
    """Let everybody call, whatever the lists say. They are kept."""
    publish(AccessListsSwitched(at_ms=now_ms(), enforced=False))


def state_line(access: AccessLists) -> str:
    if access.enforced:
        return "enforced" if access.lists else "enforced, but there is no list: everybody may call"
    return "not enforced: `penstock allowlist on` does that"


def list_table(access: AccessLists) -> Table:
    laid = table("id", "label", "type", "addresses", "enabled", "changed", wrapped=("addresses",))
    for each in access.lists.values():
        enabled = "yes" if each.enabled else "no"
        texts = (each.list_id, each.label, each.list_type, " ".join(each.addresses), enabled, moment(each.updated_ms))
        laid.add_row(*map(cell, texts))
    return laid


def _add(list_type: ListType, label: str, addresses: list[str]) -> None:
    event = AccessListCreated(at_ms=now_ms(), label=label, list_type=list_type, addresses=tuple(addresses))
    access = publish(event).access
    print(event.list_id)
    if not access.enforced:
        error_console().print(cell(state_line(access)))
