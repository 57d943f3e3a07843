"""Wires one replica and walks it through its phases: building → loading → ready → draining, or failed."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.scorer.attempts import Attempts
from services.scorer.build_log import BuildLog, DeploymentFailed
from services.scorer.bulk_lanes import BulkLanes
from services.scorer.cancelled import Cancelled
from services.scorer.environment import HOST_PYTHON, build_environment
from services.scorer.evaluation_meter import EvaluationMeter
from services.scorer.host import Evaluator, Host
from services.scorer.kept_environments import forget_environments
from services.scorer.lanes import MOST_FAILURES, Lanes
from services.scorer.model_files import fetch_model
from services.scorer.pool_files import forget_pools, kept_pools, scratch_folder, unforkable_note
from services.scorer.refusal import Refusal
from services.scorer.requirements import read_environment_spec
from services.scorer.settings import ScorerServiceSettings
from services.scorer.told_events import tell_event
from services.scorer.worker_source import WorkerSource
from services.scorer.worker_spec import WorkerSpec
from services.shared.clock import now_ms
from services.shared.endpoints import Pool
from services.shared.errors import SettingsInvalid
from services.shared.event_log import EventLog
from services.shared.health import health_served
from services.shared.presence import REPORT_EVERY_S, ReplicaReport, report_replica
from services.shared.process import calm_garbage_collector, until_stopped
from services.shared.readiness import tell_ready
from services.shared.redis_clients import new_blocking_redis, new_redis
from services.shared.secret_box import SecretBox
from services.shared.tallies import Tallies
from services.shared.topics import Queue, bulk_queue, online_queue

BULK_SCRATCH = "bulk"  # the model's process for bulk work has a working folder of its own
TIDY_AGAIN_S = 6 * 3600.0  # a warm parent that nobody asked for is kept for a day
DRAIN_SLACK_S = 30.0  # beyond the longest evaluation: reply, commit, leave

log = logging.getLogger(__name__)


async def run(settings: ScorerServiceSettings) -> None:
    """Serve one pool until SIGTERM. A pool that is not there (any more) needs no replica: that is a normal end."""
    replica = Replica(settings)
    serving = asyncio.create_task(replica.serve(), name="serve")
    reporting = asyncio.create_task(replica.report(), name="report")
    try:
        async with health_served(replica.why_not_ready):
            await until_stopped([serving, reporting])
            await replica.drain(serving)
    finally:
        for task in (serving, reporting):
            task.cancel()
        await asyncio.gather(serving, reporting, return_exceptions=True)
        await replica.close()


class Replica:
    def __init__(self, settings: ScorerServiceSettings) -> None:
        self._settings = settings
        self._state = settings.state.resolve()  # mlflow refuses a model behind a link
        self._pool_id = settings.scorer.pool_id
        self._redis: Redis = new_redis(settings.redis)
        self._blocking: Redis = new_blocking_redis(settings.redis)
        self._cancelled = Cancelled(self._redis, self._blocking, self._pool_id)
        self._phase, self._message = "building", ""
        self._tallies = Tallies(self._redis)
        self._meter = EvaluationMeter(self._tallies)
        self._bulk_meter = EvaluationMeter(None)
        self._online: Host | None = None
        self._bulk: Host | None = None
        self._source: WorkerSource | None = None
        self._lanes: Lanes | None = None
        self._bulk_lanes: BulkLanes | None = None

    async def serve(self) -> None:
        """Returns after `drain` was called, or at once without a pool; a failed deployment is reported until SIGTERM."""
        pool, gone = await self._find_pool()
        if pool is None:
            log.warning("pool is not in the control log, nothing to do", extra={"pool_id": self._pool_id})
            await self._tidy(gone)
            return
        try:
            online, bulk = (Refusal(), Refusal()) if self._settings.scorer.refusing else await self._deploy(pool)
        except (DeploymentFailed, SettingsInvalid) as error:
            await self._enter("failed", str(error))
            log.error("deployment failed", extra={"pool_id": self._pool_id, "error": str(error)})
            tell_ready()
            await asyncio.Event().wait()
            return
        self._online = self._host(online_queue(self._pool_id), online)
        self._bulk = self._host(bulk_queue(self._pool_id), bulk)
        await self._cancelled.catch_up()
        await self._online.start()
        calm_garbage_collector()
        await self._enter("ready")
        tell_ready()
        await self._serve_with(self._online, self._bulk, self._afterwards(gone))

    async def why_not_ready(self) -> str:
        if self._phase != "ready":
            return f"The replica is {self._phase}." if not self._message else self._message
        return self._lanes.trouble if self._lanes else ""

    async def report(self) -> None:
        while True:
            await self._report_once()
            await asyncio.sleep(REPORT_EVERY_S)

    async def drain(self, serving: "asyncio.Task[None]") -> None:
        """Stop taking, finish, reply, commit; given up after the longest evaluation and some."""
        if self._phase != "ready" or self._online is None or self._bulk is None:
            return
        await self._enter("draining")
        self._online.stop_taking()
        self._bulk.stop_taking()
        done, _ = await asyncio.wait([serving], timeout=self._settings.scorer.evaluation_limit_s + DRAIN_SLACK_S)
        for task in done:
            task.result()
        if not done:
            log.error("drain took too long, what is left will be delivered again")

    async def close(self) -> None:
        for host in (self._online, self._bulk):
            if host is not None:
                await host.leave()
        if self._lanes is not None:
            await self._lanes.stop()
        with suppress(RedisError, OSError):
            await self._tallies.add()
        await self._redis.aclose()
        await self._blocking.aclose()

    async def _find_pool(self) -> tuple[Pool | None, set[str]]:
        """Also says which pools are gone whose files are here."""
        kept = kept_pools(self._state)  # looked at first: who has files by now is in the log, or gone
        events = EventLog(self._settings.kafka)
        try:
            await events.start()
            pools = events.snapshot().pools
        finally:
            await events.stop()
        return pools.get(self._pool_id), kept - pools.keys()

    async def _afterwards(self, gone: set[str]) -> None:
        """What is done once it serves: the next replica starts faster by it, also where this one serves for days."""
        while True:
            await self._tidy(gone)
            if self._source is None:
                return
            await self._source.prepare_next()
            await asyncio.sleep(TIDY_AGAIN_S)

    async def _tidy(self, gone: set[str]) -> None:
        """After the start, which it would only slow down, and in a thread: it may be gigabytes that go."""
        settings = self._settings.scorer
        try:
            await asyncio.to_thread(forget_pools, self._state, gone)
            kept_s, limit_bytes = settings.environments_kept_h * 3600, settings.environments_max_bytes
            await asyncio.to_thread(forget_environments, self._state, kept_s, limit_bytes)
        except Exception:  # the edge of the loop: what lies on the disk may be anything, and what follows does not depend on it
            log.warning("what is not needed any more cannot be removed", exc_info=True)

    def _host(self, queue: Queue, evaluator: Evaluator) -> Host:
        replica_id = self._settings.scorer.replica_id
        return Host(self._pool_id, replica_id, queue, self._settings.kafka, self._redis, Attempts(self._redis), evaluator)

    async def _deploy(self, pool: Pool) -> tuple[Evaluator, Evaluator]:
        """Those of online requests, ready, and of bulk work."""
        state = self._state
        build_log = BuildLog(self._settings.logs_folder / f"build-{self._pool_id}.log")
        try:
            variables = self._open_variables(pool)
            model = await fetch_model(pool, state, self._settings.mlflow.tracking_uri, build_log)
            environment = read_environment_spec(model, HOST_PYTHON)
            python = await build_environment(environment, model, state, build_log)
            await self._enter("loading")
            build_log.write("Loading the model.")
            scratch = scratch_folder(state, self._pool_id, self._settings.scorer.replica_id)
            settings = self._settings.scorer
            spec = WorkerSpec(python, model, scratch, variables, settings.load_limit_s, settings.model_memory_bytes)
            note = unforkable_note(state, self._pool_id)
            self._source = source = WorkerSource(state, environment.digest, note, build_log, self._tell_fresh_start)
            bulk_freed = asyncio.Event()
            self._lanes = self._new_lanes(source, spec, self._meter, beside=bulk_freed)
            await self._lanes.start()
        except (DeploymentFailed, SettingsInvalid) as error:
            build_log.write(f"Failed: {error}")
            raise
        build_log.write(f"The model is loaded. {self._lanes.policy}")
        bulk = replace(spec, scratch=scratch / BULK_SCRATCH, yields=True)
        self._bulk_lanes = BulkLanes(lambda freed: self._new_lanes(source, bulk, self._bulk_meter, beside=freed), self._lanes, bulk_freed)
        return self._lanes, self._bulk_lanes

    async def _tell_fresh_start(self, message: str) -> None:
        await tell_event(self._settings.kafka, self._redis, "WORKERS_NOT_FORKED", self._pool_id, message)

    def _new_lanes(self, source: WorkerSource, spec: WorkerSpec, meter: EvaluationMeter, beside: asyncio.Event) -> Lanes:
        limit_s = self._settings.scorer.evaluation_limit_s
        return Lanes(lambda: source.start(spec), Attempts(self._redis), meter, limit_s, self._cancelled, beside)

    def _open_variables(self, pool: Pool) -> dict[str, str]:
        sealed = pool.spec.environment_vars
        if not sealed:
            return {}
        box = SecretBox.from_file(self._settings.key_file)
        return {name: box.open(value) for name, value in sealed.items()}

    async def _serve_with(self, online: Host, bulk: Host, tidying: Coroutine[None, None, None]) -> None:
        aside = asyncio.create_task(tidying, name="tidy")
        tasks = [
            asyncio.create_task(_run_both(online, bulk), name="hosts"),
            asyncio.create_task(self._cancelled.run(), name="cancelled-requests"),
            asyncio.create_task(self._tallies.run(), name="tallies"),
        ]
        if self._lanes is not None and self._bulk_lanes is not None:
            tasks.append(asyncio.create_task(self._lanes.keep_alive(MOST_FAILURES), name="keep-worker-alive"))
            tasks.append(asyncio.create_task(self._bulk_lanes.run(), name="bulk-worker"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, aside):
                task.cancel()
            await asyncio.gather(*tasks, aside, return_exceptions=True)

    async def _enter(self, phase: str, message: str = "") -> None:
        self._phase, self._message = phase, message
        log.info("replica changes phase", extra={"pool_id": self._pool_id, "phase": phase})
        await self._report_once()

    async def _report_once(self) -> None:
        lanes = self._lanes
        usage = lanes.usage if lanes else None
        report = ReplicaReport(
            pool_id=self._pool_id,
            replica_id=self._settings.scorer.replica_id,
            phase=self._phase,
            message=self._message or (lanes.trouble if lanes else "") or (self._bulk_lanes.trouble if self._bulk_lanes else ""),
            in_flight=lanes.in_flight if lanes else 0,
            memory_share=usage.memory_share if usage else None,
            cpu_share=usage.cpu_share if usage else None,
            evaluation_s=self._meter.evaluation_s,
            batched_s=self._meter.batched_s,
            bulk_evaluation_s=self._bulk_meter.evaluation_s,
            at_ms=now_ms(),
        )
        try:
            await report_replica(self._redis, report)
        except (RedisError, OSError) as error:
            log.warning("replica cannot report", extra={"error": repr(error)})


async def _run_both(online: Host, bulk: Host) -> None:
    """Returns when both have drained. Bulk work joins its group beside: nobody waits for that at a deployment."""

    async def serve_bulk() -> None:
        await bulk.start()
        await bulk.run()

    async with asyncio.TaskGroup() as hosts:
        hosts.create_task(online.run(), name="online-host")
        hosts.create_task(serve_bulk(), name="bulk-host")
