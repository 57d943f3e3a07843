"""`penstock token …`, `penstock group …` and `penstock user …`: who may call, written to the control log of the running stack."""

import json
import re
from dataclasses import asdict
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.control_log import publish, read_state
from services.cli.failures import StackFailure
from services.cli.known_users import known_users
from services.cli.layout import cell, console, moment, table
from services.shared.clock import now_ms
from services.shared.control_events import GroupChanged, PrincipalKind, TokenCreated, TokenRevoked
from services.shared.tokens import new_token, token_digest

tokens = typer.Typer(help="Tokens of users and service principals.", no_args_is_help=True)
groups = typer.Typer(help="Groups; the members of 'admins' may do everything, and everybody is in 'users'.", no_args_is_help=True)
users = typer.Typer(help="Who is known: by a token, or as the member of a group.", no_args_is_help=True)

UNIT_S = {"m": 60, "h": 3_600, "d": 86_400}


@tokens.command("create")
def create_token(
    principal: Annotated[str, typer.Argument(help="whose calls it makes, e.g. ada@example.org")],
    service_principal: Annotated[bool, typer.Option("--service-principal", help="a program's, not a person's")] = False,
    expires_in: Annotated[str | None, typer.Option(help="30m, 12h, 90d; without it the token stays until it is revoked")] = None,
    comment: str = "",
) -> None:
    """Print a new token, the only time it is shown."""
    token = new_token()
    event = TokenCreated(
        at_ms=now_ms(),
        token_id=uuid4().hex,
        sha256=token_digest(token),
        principal=principal,
        kind=PrincipalKind.SERVICE_PRINCIPAL if service_principal else PrincipalKind.USER,
        expires_ms=None if expires_in is None else now_ms() + to_seconds(expires_in) * 1000,
        comment=comment,
    )
    publish(event)
    print(token)


@tokens.command("list")
def list_tokens(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Show whose tokens there are; never the tokens."""
    known = sorted(read_state().tokens.values(), key=lambda t: t.created_ms)
    if as_json:
        print(json.dumps([asdict(token) for token in known], indent=2))
        return
    laid = table("id", "principal", "kind", "created", "expires", "comment", wrapped=("principal", "comment"))
    for token in known:
        expires = "never" if token.expires_ms is None else moment(token.expires_ms)
        who = (cell(token.principal), kind_in_words(token.kind))
        laid.add_row(token.token_id, *who, moment(token.created_ms), expires, cell(token.comment))
    console().print(laid)


@tokens.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(help="as `penstock token list` shows it")]) -> None:
    """End a token now, in every ingress process."""
    if token_id not in {token.token_id for token in read_state().tokens.values()}:
        raise StackFailure(f"there is no token {token_id}: `penstock token list` shows those there are")
    publish(TokenRevoked(at_ms=now_ms(), token_id=token_id))


@groups.command("set")
def set_group(
    name: str, members: Annotated[list[str] | None, typer.Argument(help="all of its members from now on; none: the group goes")] = None
) -> None:
    """Say who is in a group."""
    publish(GroupChanged(at_ms=now_ms(), name=name, members=tuple(members or ())))


@groups.command("list")
def list_groups(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Show the groups and who is in them."""
    if as_json:
        print(json.dumps(read_state().groups, indent=2))
        return
    laid = table("group", "members", wrapped=("members",))
    for name, members in sorted(read_state().groups.items()):
        laid.add_row(cell(name), cell(", ".join(members)))
    console().print(laid)


@users.command("list")
def list_users(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """Show users and service principals, how many tokens of theirs work now, and their groups."""
    known = known_users(read_state(), now_ms())
    if as_json:
        print(json.dumps([asdict(user) for user in known], indent=2))
        return
    laid = table("principal", "kind", "tokens", "groups", right=("tokens",), wrapped=("groups",))
    for user in known:
        laid.add_row(cell(user.principal), kind_in_words(user.kind), str(user.tokens), cell(", ".join(user.groups)))
    console().print(laid)


def kind_in_words(kind: PrincipalKind) -> str:
    return kind.value.removesuffix("_name").replace("_", " ")


def to_seconds(span: str) -> int:
    """Of `30m`, `12h` or `90d`. Raises StackFailure."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", span)
    if found is None:
        raise StackFailure(f"'{span}' is no span of time; write 30m, 12h or 90d")
    return int(found[1]) * UNIT_S[found[2]]
