"""Every command there is."""

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from services.cli.main import app


def commands(group: TyperGroup, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


def all_commands() -> list[tuple[str, ...]]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return list(commands(root))


@pytest.mark.parametrize("command", [pytest.param(words, id=" ".join(words)) for words in all_commands()])
def test_each_command_says_what_it_does(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0, shown.output
    assert len(shown.output.splitlines()) > 5
