"""The state of the stack as its supervisor tells it, and how a person sees it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.plan import kind_of
from services.cli.process_names import ReplicaName, parse_replica, replica_order, shortened
from services.cli.settings import StackSettings, without_password
from services.shared.errors import DependencyLost
from services.shared.node import Node

HEALTH_TIMEOUT_S = 3.0

Status = dict[str, Any]  # as `penstock status --json` prints it

_PURPOSE = {
    "kafka": "carries requests",
    "redis": "carries answers",
    "mlflow": "model registry",
    "ingress": "REST API",
    "submissions": "bulk work",
    "scaler": "starts replicas",
    "logger": "inference tables",
    "warm": "forks model workers",
}
_COLOURS = {"ready": "green", "starting": "yellow", "waiting": "yellow", "backing-off": "red", "stopping": "yellow", "stopped": "red"}
_FACTS = ("state", "pid", "up for", "restarts")
_OTHER_COLUMNS_CHARS = 59  # of a replica's row at its widest: a backing-off, refusing one with a pid of seven digits
_ENDPOINT_CHARS = 10


def read_status(settings: StackSettings) -> Status | None:
    """None: no supervisor answers."""
    try:
        reply = asyncio.run(Node(settings.places.root).call({"op": "status"}))
    except DependencyLost:
        return None
    return dict(reply["status"])


async def add_troubles(status: Status) -> None:
    """Say of each process that runs why it cannot do its work now: `trouble`, null where it can or has nothing to ask."""
    async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False) as http:
        asked = [_trouble(http, process["health"]) if process["state"] == "ready" else _no_trouble() for process in status["processes"]]
        for process, trouble in zip(status["processes"], await asyncio.gather(*asked), strict=True):
            process["trouble"] = trouble


async def _trouble(http: httpx.AsyncClient, health: str | None) -> str | None:
    if health is None:
        return None
    try:
        answer = await http.get(f"{health}/health/ready")
        return None if answer.is_success else str(answer.json()["message"])
    except (httpx.HTTPError, ValueError) as error:
        return f"It does not answer: {error!r}"


async def _no_trouble() -> None:
    return None


def ask_to_stop(settings: StackSettings) -> None:
    """Returns at once; without a supervisor it does nothing, since the keeper is at work already."""
    try:
        asyncio.run(Node(settings.places.root).call({"op": "stop"}))
    except DependencyLost:
        return


def show_status(console: Console, status: Status) -> None:
    console.print(f"Penstock is [bold]{status['phase']}[/bold], up for {age(status['uptime_s'])}", highlight=False)
    for problem in status["problems"]:
        console.print(f"[bold red]![/] {escape(problem)}", highlight=False, soft_wrap=True)
    for process in status["processes"]:
        if trouble := process.get("trouble"):
            console.print(f"[bold red]![/] {process['name']}: {escape(trouble)}", highlight=False, soft_wrap=True)
    _show_places(console, status)
    replicas = {process["name"]: replica for process in status["processes"] if (replica := parse_replica(process["name"]))}
    console.print()
    console.print(_process_table([process for process in status["processes"] if process["name"] not in replicas]))
    if replicas:
        of_replicas = [process for process in status["processes"] if process["name"] in replicas]
        console.print()
        console.print(_replica_table(of_replicas, replicas, console.width))


def _process_table(processes: list[Status]) -> Table:
    table = _table("process", *_FACTS, "what it does")
    for process in processes:
        table.add_row(process["name"], *_facts(process), _PURPOSE.get(kind_of(process["name"]), ""))
    return table


def _replica_table(processes: list[Status], replicas: Mapping[str, ReplicaName], width: int) -> Table:
    """The endpoint is told, by the start of its id, only where two of them serve an entity of the same name."""
    ambiguous = len({(r.endpoint_id, r.entity) for r in replicas.values()}) > len({r.entity for r in replicas.values()})
    table = _table("served entity", *(["endpoint"] if ambiguous else []), "config", "replica", *_FACTS)
    room = width - _OTHER_COLUMNS_CHARS - (_ENDPOINT_CHARS if ambiguous else 0)
    for process in sorted(processes, key=lambda process: replica_order(replicas[process["name"]])):
        replica = replicas[process["name"]]
        endpoint = [f"{replica.endpoint_id[:6]}…"] if ambiguous else []
        table.add_row(shortened(replica.entity, room), *endpoint, replica.config_version, replica.number, *_facts(process))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in ("pid", "restarts", "config", "replica") else "left", no_wrap=True)
    return table


def _facts(process: Status) -> tuple[str, ...]:
    state = process["state"]
    alive_for = age(process["uptime_s"]) if process["uptime_s"] is not None else ""
    return f"[{_COLOURS.get(state, 'default')}]{state}[/]", str(process["pid"] or ""), alive_for, str(process["restarts"])


def show_ready(console: Console, status: Status, took_s: float) -> None:
    """The final block of `penstock up`."""
    console.print(f"[bold green]Penstock is ready[/] after {took_s:.1f} s", highlight=False)
    _show_places(console, status)
    console.print(
        "\nGo on with\n"
        f"  export DATABRICKS_CONFIG_FILE={escape(status['config_file'])}\n"
        f"  export MLFLOW_TRACKING_URI={escape(status['mlflow'])}\n"
        f"{_trust_line(status['ca_bundle'])}"
        "  penstock deploy models:/NAME/VERSION · penstock endpoints list\n"
        "  penstock status · penstock logs -f · penstock settings · penstock down",
        highlight=False,
        soft_wrap=True,
    )


def _trust_line(ca_bundle: str | None) -> str:
    """Needed only for a certificate that no well-known authority signed."""
    return f"  export REQUESTS_CA_BUNDLE={escape(ca_bundle)}\n" if ca_bundle else ""


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


def age(seconds: float) -> str:
    """`54 s`, then the two largest units: `1m 54s`, `2h 1m`, `3d 2h`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest} s"
