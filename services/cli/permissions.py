"""`penstock permissions …`: what each user, group and service principal may do with an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.table import Table

from services.cli.endpoints import Name
from services.cli.layout import cell, console, print_json, table
from services.cli.workspace import ApiToken, AsJson, Host, Workspace

permissions = typer.Typer(help="Who may view, query and manage an endpoint.", no_args_is_help=True)

PATH = "/api/2.0/permissions/serving-endpoints"
KINDS = {"user": "user_name", "group": "group_name", "service-principal": "service_principal_name"}
LEVELS = ("CAN_VIEW", "CAN_QUERY", "CAN_MANAGE")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the list, as the API takes it."""

    kind: str
    name: str
    level: str

    @property
    def body(self) -> dict[str, str]:
        return {KINDS[self.kind]: self.name, "permission_level": self.level}


def parse_entry(text: str) -> Entry:
    """Of `ada@example.org=CAN_QUERY`, `group:readers=CAN_VIEW` or `service-principal:robot=CAN_MANAGE`."""
    who, _, level = text.rpartition("=")
    kind, colon, name = who.partition(":")
    if not colon:
        kind, name = "user", who
    if kind not in KINDS or not name or level not in LEVELS:
        raise typer.BadParameter(
            f"'{text}' is no entry; write ada@example.org=CAN_QUERY, group:readers=CAN_VIEW or service-principal:robot=CAN_MANAGE"
        )
    return Entry(kind, name, level)


Entries = Annotated[
    list[Entry],
    typer.Argument(
        parser=parse_entry,
        metavar="WHO=LEVEL",
        help="ada@example.org=CAN_QUERY, group:readers=CAN_VIEW, service-principal:robot=CAN_MANAGE",
    ),
]


@permissions.command()
def get(name: Name, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Show who was given what. Admins may do everything besides."""
    with Workspace(host, token) as workspace:
        show(workspace.get(path_to(workspace, name)), as_json)


@permissions.command("set")
def replace(name: Name, entries: Entries, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Give these, and take away all else."""
    with Workspace(host, token) as workspace:
        show(workspace.call("PUT", path_to(workspace, name), json=body_of(entries)), as_json)


@permissions.command()
def update(name: Name, entries: Entries, as_json: AsJson = False, host: Host = None, token: ApiToken = None) -> None:
    """Give these, and leave everybody else what they have."""
    with Workspace(host, token) as workspace:
        show(workspace.call("PATCH", path_to(workspace, name), json=body_of(entries)), as_json)


def body_of(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"access_control_list": [entry.body for entry in entries]}


def path_to(workspace: Workspace, name: str) -> str:
    """Permissions are kept by the endpoint's id."""
    return f"{PATH}/{workspace.endpoint(name)['id']}"


def show(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console().print(entry_table(found["access_control_list"]))


def entry_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    laid = table("who", "kind", "may")
    for entry in entries:
        for kind, key in KINDS.items():
            if key in entry:
                levels = ", ".join(permission["permission_level"] for permission in entry["all_permissions"])
                laid.add_row(cell(entry[key]), kind.replace("-", " "), cell(levels))
    return laid
