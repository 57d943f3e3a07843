"""The state of the stack as its supervisor tells it, and how a person sees it."""

import asyncio
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.plan import kind_of
from services.cli.settings import StackSettings, without_password
from services.shared.errors import DependencyLost
from services.shared.node import Node

Status = dict[str, Any]  # as `penstock status --json` prints it

_PURPOSE = {
    "kafka": "the log every request crosses",
    "redis": "carries answers back",
    "mlflow": "model registry",
    "ingress": "REST API",
    "scaler": "starts and stops scorer replicas",
    "logger": "writes inference tables",
    "scorer": "one replica of a served model",
}
_COLOURS = {"ready": "green", "starting": "yellow", "waiting": "yellow", "backing-off": "red", "stopping": "yellow", "stopped": "red"}


def read_status(settings: StackSettings) -> Status | None:
    """None: no supervisor answers."""
    try:
        reply = asyncio.run(Node(settings.places.root).call({"op": "status"}))
    except DependencyLost:
        return None
    return dict(reply["status"])


def ask_to_stop(settings: StackSettings) -> None:
    """Returns at once; without a supervisor it does nothing, since the keeper is at work already."""
    try:
        asyncio.run(Node(settings.places.root).call({"op": "stop"}))
    except DependencyLost:
        return


def show_status(console: Console, status: Status) -> None:
    console.print(f"Penstock is [bold]{status['phase']}[/bold], up for {_age(status['uptime_s'])}", highlight=False)
    _show_places(console, status)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("process", "state", "pid", "up for", "restarts", "what it does"):
        table.add_column(title, justify="right" if title in ("pid", "restarts") else "left")
    for process in status["processes"]:
        state = process["state"]
        table.add_row(
            process["name"],
            f"[{_COLOURS.get(state, 'default')}]{state}[/]",
            str(process["pid"] or ""),
            _age(process["uptime_s"]) if process["uptime_s"] is not None else "",
            str(process["restarts"]),
            _PURPOSE.get(kind_of(process["name"]), ""),
        )
    console.print()
    console.print(table)


def show_ready(console: Console, status: Status, took_s: float) -> None:
    """The final block of `penstock up`."""
    console.print(f"[bold green]Penstock is ready[/] after {took_s:.1f} s", highlight=False)
    _show_places(console, status)
    console.print(
        "\nGo on with\n"
        f"  export DATABRICKS_CONFIG_FILE={escape(status['config_file'])}   # databricks-sdk, mlflow.deployments and the CLI need no more\n"
        f"  export MLFLOW_TRACKING_URI={escape(status['mlflow'])}\n"
        "  penstock status · penstock logs \\[service] -f · penstock settings · penstock down",
        highlight=False,
        soft_wrap=True,
    )


def _show_places(console: Console, status: Status) -> None:
    rows = {
        "REST API": status["host"],
        "token": f"{status['config_file']} (profile DEFAULT)",
        "MLflow": without_password(status["mlflow"]),
        "Kafka": status["kafka"],
        "Redis": without_password(status["redis"]),
        "tables": status["tables"],
        "logs": status["logs"],
    }
    for name, value in rows.items():
        console.print(f"  {name:<9} {escape(value)}", highlight=False, soft_wrap=True)


def _age(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
