"""How a pool follows its load, from zero and back: `python -m bench elasticity`."""

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import ceil, isnan
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import numpy as np
from rich.console import Console

from bench.arrivals import Answers, due_times, send
from bench.deployment import deploy
from bench.elasticity_report import Finding, Trace, write_findings
from bench.models import SHORT_WAIT_S, expected_predictions, request_body, saved_model
from bench.penstock import NO_VARIABLES, Stack, own_stack, wait_until_all_answer
from bench.places import BUILT, PEERS
from bench.pool_watch import PoolWatch, Size, Sizes, replica_seconds, size_now, wait_for_size
from bench.systems import Peer, Tuning, python_of, running_peer
from services.shared.control_events import LANES_PER_REPLICA

PARTS = ("wake", "ramp", "step", "idle", "faults", "deploy", "ray")
OF_CPU = ("wake", "step", "deploy")  # the others need more cores than two, or ask for a model whose time is known
IDLE_TO_ZERO_S = 4.0
DOWN_INTERVAL_S = 20.0
UTILIZATION = 0.7  # the scaler's own setting, which is left as it is
SETTINGS: Mapping[str, str] = MappingProxyType(
    {"PENSTOCK_SCALER_IDLE_TO_ZERO_S": f"{IDLE_TO_ZERO_S:g}", "PENSTOCK_SCALER_DOWN_INTERVAL_S": f"{DOWN_INTERVAL_S:g}"}
)
MOST_REPLICAS = 8
MOST_OF_CPU = os.cpu_count() or 1  # replicas of a model that computes: more of them would take the cores from one another
FOREST_S = 0.005  # of a lane, with company: at 1,500 requests/s of one process (docs/benchmarks.md) it would be 0.003
ONE_BY_ONE = MappingProxyType({"PENSTOCK_MICRO_BATCHING": "off"})  # together, one replica would do for all of these rates
LOW, HIGH = 20.0, 200.0  # requests/s: a tenfold step
CALM_S = 5.0
ELASTIC_RAY = Peer(
    "ray",
    lambda start: [python_of("ray"), str(PEERS / "ray" / "serve_elastic.py"), *start.arguments()],
    Tuning(MOST_REPLICAS, LANES_PER_REPLICA, DOWN_INTERVAL_S),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of each part; the tests take shorter ones."""

    wakes: int = 20
    rest_s: float = 12.0  # between two wakes: longer than a spare replica takes to be back, as it would be after a night
    ramp_s: float = 600.0
    tooth_s: float = 60.0
    calm_s: float = 65.0  # of low load before the step: the average of a minute knows no other then
    up_at_s: float = 30.0  # of the step
    down_at_s: float = 60.0
    step_s: float = 60.0 + 4 * DOWN_INTERVAL_S
    cycles: int = 50
    fault_at_s: float = 10.0
    followed_s: float = 30.0  # of load after the scaler's death
    stopped_s: float = 30.0
    updates: int = 5


@dataclass(frozen=True, slots=True)
class Bench:
    """A stack with one endpoint on it, whose pool may go to zero. `evaluation_s` is what a request takes of a lane under load."""

    stack: Stack
    endpoint: str
    model: str
    evaluation_s: float
    lengths: Lengths

    def ask(self, due_s: np.ndarray) -> Answers:
        return send(self.stack.url(self.endpoint), self.stack.token, request_body(), due_s)

    def watch(self) -> PoolWatch:
        return PoolWatch(self.stack)

    def replicas_for(self, per_second: float) -> int:
        return replicas_for(per_second, self.evaluation_s)

    def sleep(self) -> None:
        time.sleep(IDLE_TO_ZERO_S)  # the last report may still be of before it woke
        wait_for_size(self.stack, 0)
        time.sleep(self.lengths.rest_s)

    def pid_of(self, process: str) -> int:
        pid: int = next(p["pid"] for p in self.stack.status()["processes"] if p["name"] == process)
        return pid


def replicas_for(per_second: float, evaluation_s: float) -> int:
    """What one who knew the rate would take."""
    return max(1, ceil(per_second * evaluation_s / (LANES_PER_REPLICA * UTILIZATION)))


@contextmanager
def elastic(model: str, lengths: Lengths, evaluation_s: float, variables: Mapping[str, str], most_replicas: int) -> Iterator[Bench]:
    lanes = most_replicas * LANES_PER_REPLICA
    size = {"min_provisioned_concurrency": 0, "max_provisioned_concurrency": lanes, "scale_to_zero_enabled": True}
    with own_stack(SETTINGS) as stack, stack.serving(model, saved_model(model, BUILT / "models"), variables, size) as endpoint:
        bench = Bench(stack, endpoint, model, evaluation_s, lengths)
        bench.ask(np.zeros(1))
        yield bench


def waiting_model(lengths: Lengths) -> AbstractContextManager[Bench]:
    """Waits 50 ms, one request a lane."""
    return elastic("waiting50", lengths, SHORT_WAIT_S, ONE_BY_ONE, MOST_REPLICAS)


def cpu_model(lengths: Lengths) -> AbstractContextManager[Bench]:
    """A forest, whose requests are scored together: one replica of four lanes is to do for both rates of the step."""
    return elastic("forest", lengths, FOREST_S, NO_VARIABLES, MOST_OF_CPU)


def run_elasticity(console: Console, parts: list[str], into: Path, lengths: Lengths) -> None:
    """Each part in turn, on one stack a model; findings are printed as they come and written in the end."""
    findings: list[Finding] = []
    traces: list[Trace] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        console.print(f"{finding.mark:<6} {finding.what}: {finding.measured} (wanted {finding.wanted})", highlight=False, soft_wrap=True)

    if own := [part for part in parts if part not in ("deploy", "ray")]:
        with waiting_model(lengths) as bench:
            traces += run_parts(bench, own, found)
    if own := [part for part in parts if part in OF_CPU]:
        with cpu_model(lengths) as bench:
            traces += run_parts(bench, own, found)
    if "ray" in parts:
        traces.append(step_of_ray("waiting50", lengths, found))
    write_findings(console, into, findings, traces)


def run_parts(bench: Bench, parts: Collection[str], found: Callable[[Finding], None]) -> list[Trace]:
    traces = []
    if "wake" in parts:
        wake(bench, found)
        burst(bench, found)
    if "ramp" in parts:
        traces.append(ramp(bench, found))
    if "step" in parts:  # after the ramp: a broker that has just begun compiles itself for a minute of load, on the cores of all
        bench.sleep()
        traces.append(step(bench, found))
    if "idle" in parts:
        threshold(bench, found)
    if "faults" in parts:
        dead_scaler(bench, found)
        stopped_scaler(bench, found)
        frozen_lag(bench, found)
    if "deploy" in parts:
        folder = saved_model(bench.model, BUILT / "models")
        deploy(bench.stack, bench.endpoint, bench.model, folder, bench.lengths.updates, found)
    return traces


def wake(bench: Bench, found: Callable[[Finding], None]) -> None:
    took_s, failed, times = [], 0, bench.lengths.wakes
    for _ in range(times):
        bench.sleep()
        answers = bench.ask(np.zeros(1))
        took_s.append(answers.took_s[0])
        failed += answers.failed
    p50, p99 = np.quantile(took_s, [0.5, 0.99])
    what = f"{bench.model}: zero → first answer, {times} wakes"
    found(Finding(what, "p50 < 1 s, p99 < 2 s", f"p50 {p50:.2f} s, p99 {p99:.2f} s", p50 < 1 and p99 < 2, of_speed=True))
    found(Finding(f"{what}, errors", "none", str(failed), not failed))


def burst(bench: Bench, found: Callable[[Finding], None]) -> None:
    bench.sleep()
    answers = bench.ask(np.linspace(0, 0.1, 200))
    measured = f"{200 - answers.failed} answered, the last after {answers.took_s.max():.2f} s"
    found(Finding(f"{bench.model}: 200 requests within 100 ms at zero", "all answered", measured, not answers.failed))


def step(bench: Bench, found: Callable[[Finding], None]) -> Trace:
    rate = step_rate(bench.lengths)
    bench.ask(due_times(lambda _: LOW, bench.lengths.calm_s))
    with bench.watch() as watch:
        answers = bench.ask(due_times(rate, bench.lengths.step_s))
    what = f"{bench.model}: {LOW:g} → {HIGH:g} → {LOW:g} requests/s"
    judge_step(what, bench.lengths, bench.replicas_for(HIGH), answers, watch.sizes, found)
    return Trace.of(f"step_{bench.model}", rate, answers, watch.sizes)


def step_of_ray(model: str, lengths: Lengths, found: Callable[[Finding], None]) -> Trace:
    """The same step, with the same model, lanes and pace, for Ray Serve's autoscaling at its quickest."""
    rate = step_rate(lengths)
    folder = saved_model(model, BUILT / "models")
    with running_peer(ELASTIC_RAY, folder, expected_predictions(folder)) as running:
        send(running.target.url, "", request_body(), due_times(lambda _: LOW, lengths.calm_s))
        began = time.monotonic()
        answers = send(running.target.url, "", request_body(), due_times(rate, lengths.step_s))
    told = (BUILT / "scratch" / ELASTIC_RAY.name / "log").read_text(errors="replace").splitlines()
    seen = [Size(**json.loads(line.removeprefix("size "))) for line in told if line.startswith("size ")]
    sizes = Sizes(began, [size for size in seen if size.at >= began])
    what = f"Ray Serve, {model}: {LOW:g} → {HIGH:g} → {LOW:g} requests/s"
    judge_step(what, lengths, replicas_for(HIGH, SHORT_WAIT_S), answers, sizes, found)
    return Trace.of("step_ray", rate, answers, sizes)


def step_rate(lengths: Lengths) -> Callable[[float], float]:
    return lambda at: HIGH if lengths.up_at_s <= at < lengths.down_at_s else LOW


def judge_step(what: str, lengths: Lengths, needed: int, answers: Answers, sizes: Sizes, found: Callable[[Finding], None]) -> None:
    up_s, down_s = lengths.up_at_s, lengths.down_at_s
    found(Finding(f"{what}, errors", "none", f"{answers.failed} of {len(answers.status):,}", not answers.failed))
    wanted_s, ready_s = (sizes.first(needed, up_s, ready=ready) - up_s for ready in (False, True))
    measured = f"{needed} replicas wanted {after(wanted_s)}, ready {after(ready_s)}"
    found(Finding(f"{what}, replicas follow", "within 2 s", measured, ready_s <= 2, of_speed=True))
    most = max(size.wanted for size in sizes.seen)
    found(Finding(f"{what}, overshoot", "under 25 %", f"{most} replicas, {needed} needed", most / needed < 1.25, of_speed=True))
    base_s = answers.between(min(CALM_S, up_s / 2), up_s).quantile_s(0.99)
    back_s = back_to(answers, base_s, up_s, down_s)
    end_s = answers.between(down_s - CALM_S, down_s).quantile_s(0.99)
    slowest_s = answers.between(up_s, down_s).took_s.max()
    measured = f"{after(back_s)} (p99 {base_s * 1e3:.0f} ms before, {end_s * 1e3:.0f} ms in the end; {slowest_s:.2f} s at most)"
    found(Finding(f"{what}, p99 is back", "within 10 s", measured, back_s <= 10, of_speed=True))
    if needed == 1:
        return  # nothing is to be taken away
    downs = [at for (at, size), (_, before) in zip(sizes.steps[1:], sizes.steps, strict=False) if size < before]
    gaps = np.diff(downs)
    paced = bool(len(downs)) and (not len(gaps) or bool(gaps.min() >= DOWN_INTERVAL_S - 1))
    measured = f"{len(downs)} steps down, {gaps.min():.0f} s apart at least" if len(gaps) else f"{len(downs)} steps down"
    found(Finding(f"{what}, steps down", f"{DOWN_INTERVAL_S:g} s apart", measured, paced, of_speed=True))


def after(seconds: float) -> str:
    return "never" if isnan(seconds) else f"after {seconds:.1f} s"


def back_to(answers: Answers, base_s: float, from_s: float, until_s: float) -> float:
    """Seconds after which the p99 of any CALM_S is at most 1.5 × `base_s`; nan for never. That of one second would be its second worst."""
    calm_from = until_s
    for second in reversed(range(int(from_s), int(until_s - CALM_S) + 1)):
        if answers.between(second, second + CALM_S).quantile_s(0.99) > 1.5 * base_s:
            break
        calm_from = second
    return calm_from - from_s if calm_from < until_s else float("nan")


def ramp(bench: Bench, found: Callable[[Finding], None]) -> Trace:
    """Up and down once over half of the time, then teeth."""
    seconds, tooth = bench.lengths.ramp_s, bench.lengths.tooth_s
    half = seconds / 2

    def rate(at: float) -> float:
        if at < half:
            return LOW + (HIGH - LOW) * (1 - abs(at / half * 2 - 1))
        return LOW + (HIGH - LOW) * ((at - half) % tooth / tooth)

    with bench.watch() as watch:
        answers = bench.ask(due_times(rate, seconds))
    oracle = oracle_steps([bench.replicas_for(rate(at)) for at in range(int(seconds))])
    resizes, ideal = len(watch.sizes.steps) - 1, len(oracle) - 1
    used, ideal_used = replica_seconds(watch.sizes.steps, seconds), replica_seconds(oracle, seconds)
    what = f"{bench.model}: ramp and sawtooth, {seconds / 60:g} min"
    found(Finding(f"{what}, errors", "none", f"{answers.failed} of {len(answers.status):,}", not answers.failed))
    found(Finding(f"{what}, resizes", "≤ 1.5 × an oracle's", f"{resizes} against {ideal}", resizes <= 1.5 * ideal))
    measured = f"{used:,.0f} against {ideal_used:,.0f}: {used / ideal_used:.2f} ×; p99 {answers.quantile_s(0.99) * 1e3:.0f} ms"
    found(Finding(f"{what}, replica-seconds", "stated", measured, None))
    return Trace.of("ramp", rate, answers, watch.sizes)


def oracle_steps(needed: list[int]) -> list[tuple[float, int]]:
    """(second, size) of one who knows what each second needs, and keeps the same pace downwards."""
    steps, down_at = [(0.0, needed[0])], -DOWN_INTERVAL_S
    for second, need in enumerate(needed):
        size = steps[-1][1]
        if need > size or (need < size and second - down_at >= DOWN_INTERVAL_S):
            steps.append((float(second), need))
            down_at = float(second) if need < size else down_at
    return steps


def threshold(bench: Bench, found: Callable[[Finding], None]) -> None:
    """A request whenever the pool is about to leave, has just left, or leaves at that moment."""
    cycles = bench.lengths.cycles
    gaps = leaves_after_s(bench) + np.tile([-0.1, 0.0, 0.1, 0.05, -0.05], cycles // 5)
    with bench.watch() as watch:
        answers = bench.ask(np.cumsum(gaps))
    stops = sum(size == 0 for _, size in watch.sizes.steps)
    measured = f"{answers.failed} failed, {stops} times at zero, the longest answer took {answers.took_s.max():.1f} s"
    found(Finding(f"{bench.model}: {cycles} requests round the idle threshold ± 100 ms", "none lost", measured, not answers.failed))


def leaves_after_s(bench: Bench) -> float:
    """From a request until the pool is seen to leave: the idle time, and what the scaler's look comes later."""
    bench.sleep()
    with bench.watch() as watch:
        bench.ask(np.zeros(1))
        time.sleep(IDLE_TO_ZERO_S / 2)
        wait_for_size(bench.stack, 0)
    return [at for at, size in watch.sizes.steps if size == 0][-1]


def dead_scaler(bench: Bench, found: Callable[[Finding], None]) -> None:
    """It dies in the second in which the load grows fivefold."""
    at_s, low, high = bench.lengths.fault_at_s, 20.0, 100.0
    with bench.watch() as watch:
        killing = _at(at_s, lambda: os.kill(bench.pid_of("scaler"), signal.SIGKILL))
        answers = bench.ask(due_times(lambda at: high if at >= at_s else low, at_s + bench.lengths.followed_s))
        killing.join()
    followed_s = watch.sizes.first(bench.replicas_for(high), at_s, ready=False) - at_s
    what = f"{bench.model}: the scaler is killed as the load grows fivefold"
    measured = f"{bench.replicas_for(high)} replicas wanted {after(followed_s)}"
    found(Finding(what, "another leads and follows within 10 s", measured, followed_s <= 10, of_speed=True))
    found(Finding(f"{what}, errors", "none", str(answers.failed), not answers.failed))


def stopped_scaler(bench: Bench, found: Callable[[Finding], None]) -> None:
    pid, per_second, at_s, stopped_s = bench.pid_of("scaler"), 60.0, bench.lengths.fault_at_s, bench.lengths.stopped_s
    with bench.watch() as watch:
        acting = [_at(at_s, lambda: os.kill(pid, signal.SIGSTOP)), _at(at_s + stopped_s, lambda: os.kill(pid, signal.SIGCONT))]
        answers = bench.ask(due_times(lambda _: per_second, at_s + stopped_s + at_s))
        for one in acting:
            one.join()
    sizes = {size for at, size in watch.sizes.steps if at > at_s}
    end = watch.sizes.seen[-1].wanted
    measured = f"{answers.failed} failed, sizes {sorted(sizes) or [end]}, {end} in the end"
    good = not answers.failed and end >= bench.replicas_for(per_second)
    found(Finding(f"{bench.model}: the scaler is stopped for {stopped_s:g} s under load", "no error, it goes on after it", measured, good))


def frozen_lag(bench: Bench, found: Callable[[Finding], None]) -> None:
    """Kafka stands still, so that no lag can be read; nothing is asked meanwhile."""
    bench.ask(due_times(lambda _: 100.0, 8))
    kafka, stopped_s, size = bench.pid_of("kafka"), bench.lengths.stopped_s, size_now(bench.stack)
    os.kill(kafka, signal.SIGSTOP)
    try:
        with bench.watch() as watch:
            time.sleep(stopped_s)
            processes = [p for p in bench.stack.status()["processes"] if p["name"].startswith("scorer-")]
    finally:
        os.kill(kafka, signal.SIGCONT)  # and the pool, idle for so long, goes to zero
    wait_until_all_answer(bench.stack)
    seen = {one.wanted for one in watch.sizes.seen} or {size}
    good = seen == {size} and len(processes) == size
    found(Finding(f"{bench.model}: no lag to be read for {stopped_s:g} s", f"{size} replicas stay", f"{len(processes)} replicas", good))


def _at(seconds: float, act: Callable[[], None]) -> Thread:
    def wait_and_act() -> None:
        time.sleep(seconds)
        act()

    thread = Thread(target=wait_and_act)
    thread.start()
    return thread
