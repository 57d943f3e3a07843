"""CPU time per request of every hop of a stack under load, and of the steps inside: `python -m bench hops`."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cpu import HopCost, cores_needed, cpu_times, hop_costs, per_request_us
from bench.load import Load, Target, closed_loop
from bench.models import request_body, saved_model
from bench.penstock import Stack, own_stack, running_stack
from bench.places import BUILT

GOAL_PER_SECOND = 25_000
WARM_UP_S = 4.0
SETTLE_S = 2.0  # the logger writes what it holds


@dataclass(frozen=True, slots=True)
class Hops:
    """What each hop used for the requests of `load`."""

    load: Load
    costs: list[HopCost]

    @property
    def stack_cpu_s(self) -> float:
        return sum(cost.cpu_s for cost in self.costs)

    @property
    def cores_for_goal(self) -> float:
        return cores_needed(self.stack_cpu_s, self.load.requests, GOAL_PER_SECOND)


def measure(stack: Stack, target: Target, connections: int, seconds: float) -> Hops:
    """One run under load after a warm-up. What the logger does later for these requests counts too."""
    closed_loop(target, connections, WARM_UP_S)
    time.sleep(SETTLE_S)
    before = cpu_times(stack.status())
    load = closed_loop(target, connections, seconds)
    time.sleep(SETTLE_S)
    return Hops(load, hop_costs(before, cpu_times(stack.status())))


def run_hops(
    console: Console,
    model: str,
    connections: int,
    seconds: float,
    state: Path | None,
    settings: Mapping[str, str],
    variables: Mapping[str, str],
) -> None:
    """Measure and print; `state` names a running stack, else one is started, with `settings`."""
    folder = saved_model(model, BUILT / "models")
    body = BUILT / "body.json"
    body.write_bytes(request_body())
    with ExitStack() as opened:
        stack = running_stack(state) if state else opened.enter_context(own_stack(settings))
        endpoint = opened.enter_context(stack.serving(model, folder, variables))
        target = Target(stack.url(endpoint), body, token=stack.token)
        found = measure(stack, target, connections, seconds)
    show(console, model, connections, found)


def show(console: Console, model: str, connections: int, found: Hops) -> None:
    load = found.load
    console.print(
        f"\n{model}, {connections} connections, {load.duration_s:.1f} s: {load.per_second:,.0f} requests/s, p50 {load.p50_ms:.1f} ms, "
        f"p99 {load.p99_ms:.1f} ms, {load.failed} failed",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("hop", "CPU µs a request", "busy cores", "processes"):
        table.add_column(title, justify="left" if title == "hop" else "right")
    tool = HopCost("(load tool)", load.tool_cpu_s, 1)
    total = HopCost("all of the stack", found.stack_cpu_s, sum(cost.processes for cost in found.costs))
    for cost in (*found.costs, total, tool):
        per_request = per_request_us(cost.cpu_s, load.requests)
        table.add_row(cost.hop, f"{per_request:.0f}", f"{cost.cpu_s / load.duration_s:.2f}", str(cost.processes))
    console.print(table)
    console.print(
        f"{GOAL_PER_SECOND:,} requests/s would keep {found.cores_for_goal:.1f} cores busy (the stack alone)",
        highlight=False,
        soft_wrap=True,
    )
