"""`python -m services.cli.supervisor`: starts the stack, keeps it alive, stops it in drain order.

It tells `penstock up` how far it is in JSON lines on the descriptor `--report` names: `{"process", "state", "after_s"}` at
every change, then one of `{"ready": status}` and `{"failed": reason}`.
"""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from services.cli import spare_replica
from services.cli.admin_token import ensure_admin
from services.cli.child import Child
from services.cli.failures import StackFailure
from services.cli.keeper import end_groups, left_behind
from services.cli.keeper_link import KeeperLink
from services.cli.log_files import prune_build_logs, prune_replica_logs, rotate_all
from services.cli.plan import TOPICS, ChildState, kind_of, needs_of, stop_waves
from services.cli.preflight import require_disk
from services.cli.probes import kafka_answers, mlflow_answers, redis_answers
from services.cli.settings import StackSettings, load_stack_settings
from services.cli.stack import Stack
from services.cli.warm_parents import WarmParents
from services.shared.errors import DependencyLost, SettingsInvalid
from services.shared.node import NodeServer, ReplicaProcess
from services.shared.telemetry import start_telemetry
from services.shared.topics import ensure_topics

START_TIMEOUT_S = 180.0
LOCK_PATIENCE_S = 15.0  # the keeper of a killed stack holds the folder until what was left is gone
DISK_LOOK_S = 30.0

log = logging.getLogger(__name__)
_REPLICA_STATES = {ChildState.BACKING_OFF: "backing-off", ChildState.STOPPING: "stopping"}


class Supervisor:
    def __init__(self, stack: Stack, keeper: KeeperLink, report: Callable[[dict[str, Any]], None]) -> None:
        self._stack = stack
        self._keeper = keeper
        self._report = report
        self._children: dict[str, Child] = {}
        self._replicas: dict[str, tuple[str, bool]] = {}  # replica id → pool id, refusing
        self._ready: dict[str, asyncio.Event] = {}
        self._spares = stack.spare_replicas(keeper)
        scorer = stack.settings.scorer
        most = scorer.warm_parents if sys.platform == "linux" else 0  # elsewhere nothing would end a fork with its host
        self._warm = WarmParents(stack.places, most, scorer.warm_parents_max_bytes, keeper, self._children, self._changed)
        self._phase = "starting"
        self._began_at = time.monotonic()
        self.stop_asked = asyncio.Event()

    async def run(self) -> None:
        """Start, serve the node socket, and stop when asked. Raises StackFailure when the start fails."""
        starting = asyncio.create_task(self._start_all(), name="start")
        asked = asyncio.create_task(self.stop_asked.wait(), name="stop-asked")
        aside = [asyncio.create_task(self._watch_disk(), name="disk")]
        try:
            async with NodeServer(self._stack.places.root, self._operations()):
                await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    self._phase = "ready"
                    log.info("stack ready", extra={"after_s": self._age_s()})
                    self._report({"ready": self.status()})
                    aside.append(asyncio.create_task(self._spares.keep(), name="spare-replicas"))
                    aside.append(asyncio.create_task(self._warm.keep(), name="warm-parents"))
                await asked
                self._phase = "stopping"
                for keeping in aside:  # nothing of theirs begins any more
                    keeping.cancel()
                await self._stop_all()
        finally:
            for task in (starting, asked, *aside):
                task.cancel()
            await asyncio.gather(starting, asked, *aside, return_exceptions=True)
            await self._stop_all()

    def status(self) -> dict[str, Any]:
        places, addresses = self._stack.places, self._stack.addresses
        return {
            "phase": self._phase,
            "host": addresses.host,
            "mlflow": addresses.mlflow,
            "kafka": addresses.kafka,
            "redis": addresses.redis,
            "state": str(places.root),
            "tables": self._stack.settings.tables_place,
            "logs": str(places.logs),
            "config_file": str(places.config_file),
            "ca_bundle": str(places.ca_bundle) if self._stack.settings.ingress.tls_certificate else None,
            "supervisor": os.getpid(),
            "uptime_s": self._age_s(),
            "problems": self._problems(),
            "processes": [child.status() for child in self._children.values()],
        }

    async def _start_all(self) -> None:
        specs = [*self._stack.server_specs(), *self._stack.service_specs()]
        external = {"kafka", "redis", "mlflow"} - {spec.name for spec in specs}
        self._ready = {name: asyncio.Event() for name in (*(spec.name for spec in specs), *external, TOPICS)}
        for spec in specs:
            self._children[spec.name] = Child(spec, self._keeper, self._changed, lambda _: None)
        try:
            async with asyncio.timeout(START_TIMEOUT_S), asyncio.TaskGroup() as group:
                group.create_task(self._in_turn(TOPICS, self._prepare_topics), name="start-topics")
                for name in external:
                    group.create_task(self._in_turn(name, partial(self._require_external, name)), name=f"start-{name}")
                for spec in specs:
                    group.create_task(self._in_turn(spec.name, self._children[spec.name].start_ready), name=f"start-{spec.name}")
        except* StackFailure as failures:
            raise failures.exceptions[0] from None
        except* DependencyLost as failures:
            raise StackFailure(str(failures.exceptions[0])) from None
        except* TimeoutError:
            late = ", ".join(name for name, ready in self._ready.items() if not ready.is_set())
            raise StackFailure(f"not ready after {START_TIMEOUT_S:.0f} s: {late}; see {self._stack.places.logs}") from None

    async def _in_turn(self, name: str, bring_up: Callable[[], Awaitable[None]]) -> None:
        for need in needs_of(name):
            await self._ready[need].wait()
        await bring_up()
        self._ready[name].set()

    async def _prepare_topics(self) -> None:
        kafka = self._stack.settings.kafka.model_copy(update={"bootstrap": self._stack.addresses.kafka})
        await ensure_topics(kafka)
        await ensure_admin(kafka, self._stack.places.config_file, self._stack.addresses.host)

    async def _require_external(self, name: str) -> None:
        address = getattr(self._stack.addresses, name)
        answers = {"kafka": kafka_answers, "redis": redis_answers, "mlflow": mlflow_answers}[name]
        if not await answers(address):
            variable = {"kafka": "KAFKA_BOOTSTRAP", "redis": "REDIS_URL", "mlflow": "MLFLOW_TRACKING_URI"}[name]
            raise StackFailure(f"{name} does not answer at the address PENSTOCK_{variable} gives")

    async def _stop_all(self) -> None:
        for wave in stop_waves(self._children):
            await asyncio.gather(*(self._children[name].stop() for name in wave if name in self._children))

    async def _watch_disk(self) -> None:
        """Keep the logs small: a broker that is away fills them fast. Say that the disk is full, which shows as other faults first."""
        while True:
            await asyncio.sleep(DISK_LOOK_S)
            try:
                await asyncio.to_thread(rotate_all, self._stack.places.logs)
            except OSError as error:
                log.warning("logs not rotated", extra={"reason": str(error)})
            for problem in self._problems():
                log.error("disk nearly full", extra={"reason": problem})

    def _problems(self) -> list[str]:
        try:
            require_disk(self._stack.places.root)
        except StackFailure as failure:
            return [str(failure)]
        return []

    def _operations(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {
            "start_replica": self._start_replica,
            "stop_replica": self._stop_replica,
            "replicas": lambda _: {"replicas": [replica.model_dump() for replica in self._replica_list()]},
            "status": lambda _: {"status": self.status()},
            "use_environment": self._warm.use,
            "stop": self._ask_to_stop,
        }

    def _start_replica(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.stop_asked.is_set():
            raise StackFailure("the stack is stopping")
        replica_id, pool_id, refusing = str(request["replica_id"]), str(request["pool_id"]), bool(request["refusing"])
        if replica_id not in self._replicas:
            self._prune_logs()
            spec = self._stack.replica_spec(replica_id, pool_id, refusing)
            child = Child(spec, self._keeper, self._changed, self._forget_replica, self._spares)
            self._children[child.spec.name] = child
            self._replicas[replica_id] = (pool_id, refusing)
            child.start()
        return {}

    def _prune_logs(self) -> None:
        places = self._stack.places
        prune_replica_logs(places.logs, {places.log_of(name) for name in (*self._children, spare_replica.NAME)})
        prune_build_logs(places.logs, time.time())

    def _stop_replica(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._children.get(f"scorer-{request['replica_id']}")
        if child is not None:
            child.ask_to_stop()
        return {}

    def _forget_replica(self, child: Child) -> None:
        self._children.pop(child.spec.name, None)
        self._replicas.pop(child.spec.name.removeprefix("scorer-"), None)

    def _replica_list(self) -> list[ReplicaProcess]:
        return [
            ReplicaProcess.model_validate(
                {
                    "replica_id": replica_id,
                    "pool_id": pool_id,
                    "refusing": refusing,
                    "state": _REPLICA_STATES.get(child.state, "running"),
                    "pid": child.pid,
                    "started_ms": child.started_ms,
                    "deaths": child.deaths,
                    "last_words": child.last_words,
                }
            )
            for replica_id, (pool_id, refusing) in self._replicas.items()
            if (child := self._children[f"scorer-{replica_id}"])
        ]

    def _ask_to_stop(self, _: dict[str, Any]) -> dict[str, Any]:
        self.stop_asked.set()
        return {"supervisor": os.getpid()}

    def _changed(self, child: Child) -> None:
        log.info("process changed", extra={"child": child.spec.name, "state": str(child.state), "process_pid": child.pid})
        if self._phase == "starting" and kind_of(child.spec.name) != "scorer":
            self._report({"process": child.spec.name, "state": str(child.state), "after_s": self._age_s()})

    def _age_s(self) -> float:
        return round(time.monotonic() - self._began_at, 1)


async def take_lock(path: Path) -> int:
    """The descriptor of the state folder's lock, held until this process and its keeper are gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        async with asyncio.timeout(LOCK_PATIENCE_S):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(0.1)
                else:
                    return descriptor
    except TimeoutError:
        os.close(descriptor)
        raise StackFailure(f"the state folder {path.parent} is in use by another stack") from None


def end_left_behind(journal: Path) -> None:
    """End what a supervisor and a keeper left that were killed at the same moment."""
    groups = left_behind(journal)
    if groups:
        log.warning("ending what a killed stack left behind", extra={"groups": len(groups)})
        end_groups(groups)


async def supervise(settings: StackSettings, report: Callable[[dict[str, Any]], None], until_eof: bool) -> None:
    places = settings.places
    descriptor = await take_lock(places.lock)
    await asyncio.to_thread(end_left_behind, places.journal)
    keeper = KeeperLink(descriptor, places.journal)
    await keeper.start()
    try:
        supervisor = Supervisor(await asyncio.to_thread(Stack, settings), keeper, report)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop_asked.set)
        if until_eof:
            loop.add_reader(sys.stdin.fileno(), supervisor.stop_asked.set)  # nothing is ever written there
        await supervisor.run()
    finally:
        await keeper.stop()


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--report", type=int, required=True)
    arguments.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    given = arguments.parse_args()

    def report(event: dict[str, Any]) -> None:
        with suppress(OSError):  # whoever asked for the start may be gone; the stack is not
            os.write(given.report, json.dumps(event).encode() + b"\n")

    try:
        settings = load_stack_settings()
        start_telemetry("supervisor", settings.log.level)
        asyncio.run(supervise(settings, report, given.until_eof))
    except (StackFailure, SettingsInvalid, OSError) as error:
        log.error("stack failed", extra={"reason": str(error)})
        report({"failed": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
