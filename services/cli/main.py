"""The `penstock` command. A group of commands is a module of its own and is added at the end."""

import asyncio
import json
import sys
import time
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from services.cli import launch
from services.cli.allowlist import allowlist
from services.cli.batch import batches
from services.cli.deploy import deploy
from services.cli.endpoints import endpoints
from services.cli.failures import ApiRefusal, StackFailure
from services.cli.keeper import left_behind
from services.cli.log_viewer import following_lines, matching_logs, recent_lines
from services.cli.permissions import permissions
from services.cli.principals import groups, tokens, users
from services.cli.progress import Progress
from services.cli.settings import load_stack_settings, setting_lines
from services.cli.sql import sql
from services.cli.status import add_troubles, read_status, show_ready, show_status
from services.cli.tables import tables
from services.cli.top import top
from services.shared.errors import ServingError, SettingsInvalid

app = typer.Typer(help="Model serving over a stream, on this machine.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


def run() -> None:
    """Entry of the console script: what goes wrong is one line on stderr and a non-zero exit."""
    try:
        app()
    except (ApiRefusal, StackFailure, SettingsInvalid, ServingError, OSError) as error:
        print(f"penstock: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def up(foreground: bool = typer.Option(False, "--foreground", help="Stay; Ctrl-C stops the stack.")) -> None:
    """Start the stack; return when all is ready and leave it running."""
    began_at = time.monotonic()
    with Progress(console) as progress:
        supervisor, status = launch.up(load_stack_settings(), progress, foreground=foreground)
    show_ready(console, status, time.monotonic() - began_at)
    if foreground:
        sys.exit(launch.stay(supervisor))


@app.command()
def down() -> None:
    """Stop the stack in drain order; return when nothing of it is left. Its data stays."""
    with Progress(console) as progress:
        launch.down(load_stack_settings(), progress)


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="For programs.")) -> None:
    """Show addresses, folders and the state of each process."""
    settings = load_stack_settings()
    current = read_status(settings)
    if current is None:
        left = len(left_behind(settings.places.journal)) if launch.is_free(settings) else 0
        found = f", but {left} processes of a killed one are left: `penstock down` ends them" if left else ": `penstock up` starts one"
        raise StackFailure(f"no stack is running in {settings.places.root}{found}")
    asyncio.run(add_troubles(current))
    if as_json:
        print(json.dumps(current, indent=2))
    else:
        show_status(console, current)


@app.command()
def logs(
    service: str | None = typer.Argument(None, help="kafka, ingress, scorer, build, ..., or a served entity's name"),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what is written from now on."),
) -> None:
    """Print the last lines of the logs: of one process, of one service, of one served entity, or of all."""
    folder = load_stack_settings().places.logs
    for line in recent_lines(matching_logs(folder, service)):
        print(line)
    if follow:
        for line in following_lines(folder, service):
            print(line, flush=True)


@app.command("settings")
def show_settings(as_json: bool = typer.Option(False, "--json", help="For programs.")) -> None:
    """List every setting: its variable, value now, default, meaning and unit."""
    lines = list(setting_lines(load_stack_settings()))
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
        return
    for line in lines:
        value = f"[bold]{escape(line.value)}[/] (default: {escape(line.default)})" if line.value != line.default else escape(line.value)
        console.print(f"[cyan]{line.variable}[/] = {value}\n    {escape(line.meaning)}", highlight=False, soft_wrap=True)
    console.print("\nThe TOML file that PENSTOCK_CONFIG names comes second; in it, PENSTOCK_KAFKA_PORT is `port` of the table `kafka`.")


app.command()(deploy)
app.command()(top)
app.command()(sql)
app.add_typer(tables, name="tables")
app.add_typer(endpoints, name="endpoints")
app.add_typer(batches, name="batch")
app.add_typer(permissions, name="permissions")
app.add_typer(tokens, name="token")
app.add_typer(groups, name="group")
app.add_typer(users, name="user")
app.add_typer(allowlist, name="allowlist")


@app.command()
def demo(keep: bool = typer.Option(False, "--keep", help="Leave the stack up afterwards.")) -> None:
    """Run the main job on real data, from training to the inference table, and check every answer and every row."""
    from services.cli.demo.story import tell  # it needs the demo's own packages, and seconds of imports

    tell(keep=keep)
