"""The load tools: wrk for a fixed number of connections, each of which waits for its answer (closed loop), and oha for a fixed
rate of arrivals with latency from the moment a request was due (open loop)."""

import json
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.places import BENCH

SUMMARY = "wrk-summary "
THREADS = 1  # one thread of wrk drives far more than any system here answers


class LoadToolMissing(Exception):
    """Says which, and how to get it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked, and how."""

    url: str
    body_file: Path
    content_type: str = "application/json"
    token: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one run. Latencies in ms; `failed` are answers other than 2xx, and requests without one; CPU is the tool's own."""

    requests: int
    duration_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    tool_cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Good answers only."""
        return max(0, self.requests - self.failed) / self.duration_s


def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Each connection sends the next request when the last is answered."""
    command = [
        *(_tool("wrk", "Debian: apt-get install wrk"), f"-t{min(THREADS, connections)}", f"-c{connections}", f"-d{seconds:g}s"),
        *("--timeout", "30s", "--latency", "-s", str(BENCH / "wrk.lua"), target.url),
        *("--", str(target.body_file), target.content_type, target.token),
    ]
    output, cpu_s = _run(command, seconds + 60)
    return parse_wrk(output, cpu_s)


def open_loop(oha: Path, target: Target, per_second: float, seconds: float) -> Load:
    """Requests are due at a constant rate, whatever the answers do; latency counts from when one was due."""
    command = [
        *(str(oha), "--no-tui", "--output-format", "json", "--latency-correction", "-q", f"{per_second:.2f}", "-c", "256"),
        *("-z", f"{seconds:g}s", "-t", "30s", "-m", "POST", "-D", str(target.body_file), "-T", target.content_type),
        *(["-H", f"Authorization: Bearer {target.token}"] if target.token else []),
        target.url,
    ]
    output, cpu_s = _run(command, seconds + 60)
    return parse_oha(output, cpu_s)


def parse_wrk(output: str, tool_cpu_s: float = 0.0) -> Load:
    """Raises ValueError when wrk said nothing that `wrk.lua` makes it say."""
    for line in output.splitlines():
        if line.startswith(SUMMARY):
            said = json.loads(line.removeprefix(SUMMARY))
            return Load(
                requests=said["requests"],
                duration_s=said["duration_us"] / 1e6,
                p50_ms=said["p50_us"] / 1e3,
                p90_ms=said["p90_us"] / 1e3,
                p99_ms=said["p99_us"] / 1e3,
                max_ms=said["max_us"] / 1e3,
                failed=said["bad_status"] + said["broken"],
                tool_cpu_s=tool_cpu_s,
            )
    raise ValueError(f"wrk gave no summary: {output[-500:]}")


def parse_oha(output: str, tool_cpu_s: float = 0.0) -> Load:
    """oha's JSON; a request that was not answered when the time was over counts as neither."""
    said: dict[str, Any] = json.loads(output)
    statuses = {int(status): count for status, count in said["statusCodeDistribution"].items()}
    broken = sum(count for error, count in said["errorDistribution"].items() if "deadline" not in error)
    percentiles = said["latencyPercentiles"]
    return Load(
        requests=sum(statuses.values()) + broken,
        duration_s=said["summary"]["total"],
        p50_ms=percentiles["p50"] * 1e3,
        p90_ms=percentiles["p90"] * 1e3,
        p99_ms=percentiles["p99"] * 1e3,
        max_ms=said["summary"]["slowest"] * 1e3,
        failed=broken + sum(count for status, count in statuses.items() if not 200 <= status < 300),
        tool_cpu_s=tool_cpu_s,
    )


def _tool(name: str, how: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LoadToolMissing(f"{name} is missing ({how})")
    return found


def _run(command: list[str], patience_s: float) -> tuple[str, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise ValueError(f"{command[0]} ended with {ran.returncode}: {ran.stderr[-500:]}")
    return ran.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
